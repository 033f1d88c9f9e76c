"""What each set of values makes, object for object: the diff is the review."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest

FOLDER = Path(__file__).parent
SETS = sorted(path.stem for path in (FOLDER / "values").glob("*.yaml"))


def values_of(name: str) -> Manifest:
    """A set of values."""
    values: Manifest = yaml.safe_load((FOLDER / "values" / f"{name}.yaml").read_text())
    return values


def snapshot(manifests: list[Manifest]) -> str:
    """As text, without what is tested against its own source: rules and dashboards."""
    for manifest in manifests:
        if manifest["kind"] == "PrometheusRule":
            manifest["spec"]["groups"] = "as in alerts/"
    manifests = [one for one in manifests if not one["metadata"]["name"].endswith("-dashboard")]
    manifests.sort(key=lambda one: (one["kind"], one["metadata"]["name"]))
    return yaml.safe_dump_all(manifests, width=100)


@pytest.mark.parametrize("name", SETS)
def test_snapshot(name: str, helm: Helm, chart: Path, request: pytest.FixtureRequest) -> None:
    golden = FOLDER / "golden" / f"{name}.yaml"
    seen = snapshot(helm.render(chart, values_of(name)))
    if request.config.getoption("--update-golden"):
        golden.write_text(seen)
        return
    expected = golden.read_text()
    diff = difflib.unified_diff(expected.splitlines(), seen.splitlines(), "golden", "now", n=2)
    assert seen == expected, "\n".join(diff)


def test_every_golden_file_belongs_to_a_set_of_values() -> None:
    assert sorted(path.stem for path in (FOLDER / "golden").glob("*.yaml")) == SETS
