"""Accelerators without the daemon: what the dashboard shows of a fleet that has dcgm-exporter only.

The tables of alerts/adapters/README.md say what is there and what stays empty, as it is shipped and
with the rows that they name.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import pytest

from joulefloor import catalogue
from stack.peers import start_prometheus, write_config
from stack.query import eventually, fetch_json
from tests.dashboards.board import Ask, boards
from tests.dashboards.dcgm import ADDED, FULL, PLAIN, SHIPPED, exporters, scraping
from tests.dashboards.promql import RULES
from tests.dashboards.test_queries import answer
from tests.prom.required import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stack.processes import Peer

ADAPTERS: Final = RULES / "adapters"
README: Final = (ADAPTERS / "README.md").read_text(encoding="utf-8")
PATIENCE_S: Final = 60.0
NOBODY_IS_LOST: Final = "Devices that need somebody [A]"
"""An expression that has no answer while all is well."""
STAYS, GONE = "1x90", "1x65 stale"
"""By minutes: there, and gone after 65."""
YES, PART, NO = "yes", "part", "no"
States = dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Prometheus over both machines, with the shipped rules and those of the adapter."""
    folder = tmp_path_factory.mktemp("dcgm")
    with exporters() as address:
        config = scraping(address, folder / "rules")
        with start_prometheus(require("prometheus", major=3), folder, config) as peer:
            yield peer


def asks() -> Mapping[str, list[Ask]]:
    """The expressions of Accelerators by panel, in the order of the dashboard."""
    (board,) = (one for one in boards() if one.path.stem == "joulefloor-accelerators")
    found: dict[str, list[Ask]] = defaultdict(list)
    for ask in board.asks():
        name = ask.where.partition(" / ")[2].partition(" / ")[2] or ask.where.partition(" / ")[2]
        if not name.startswith("annotation") and name != NOBODY_IS_LOST:
            found[name.rpartition(" [")[0]].append(ask)
    return found


def documented() -> States:
    """What the README says: by panel, as shipped and with more rows."""
    rows = re.findall(
        r"^\| ([^|`]+) \| (yes|part|no)\b[^|]* \| (yes|part|no)\b", README, re.MULTILINE
    )
    return {name: (plain, full) for name, plain, full in rows}


def state(url: str, found: list[Ask], machine: str) -> str:
    """Whether all, some or none of a panel's expressions have an answer for the machine."""
    answered = [bool(answer(url, ask, instance=machine)) for ask in found]
    return YES if all(answered) else PART if any(answered) else NO


def states(url: str) -> States:
    """The same as `documented`, asked for."""
    return {
        name: (state(url, found, PLAIN), state(url, found, FULL)) for name, found in asks().items()
    }


def test_the_readme_tells_what_accelerators_shows_without_the_daemon(prometheus: Peer) -> None:
    wanted = documented()
    assert wanted.keys() == asks().keys()

    eventually(lambda: states(prometheus.url) == wanted, within_s=PATIENCE_S)

    assert states(prometheus.url) == wanted


def test_a_gpu_that_its_exporter_no_longer_shows_is_lost_and_a_machine_that_is_off_is_not(
    tmp_path: Path,
) -> None:
    (lost,) = asks()["Lost"]
    place = 'cluster="berlin",job="joulefloor-adapters",component="gpu"'
    gpus = {("n1", "GPU-1"): GONE, ("n1", "GPU-2"): STAYS, ("n2", "GPU-3"): GONE}
    series = [
        {"series": f'{name}{{{place},instance="{node}",device="{gpu}"}}', "values": values}
        for name in (catalogue.DEVICE_INFO.name, catalogue.COMPONENT_POWER.name)
        for (node, gpu), values in gpus.items()
    ]
    case = {
        "expr": lost.filled(),
        "eval_time": "80m",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    content = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [case]}]}
    file = write_config(tmp_path / "lost.yaml", content)

    done = subprocess.run(
        [require("promtool", major=3).path, "test", "rules", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_of_the_adapter_are_evaluated_without_an_error(prometheus: Peer) -> None:
    groups = fetch_json(f"{prometheus.url}/api/v1/rules")["data"]["groups"]

    assert any(group["name"] == "joulefloor-adapter-dcgm-devices" for group in groups)
    broken = [
        (rule["name"], rule["lastError"])
        for group in groups
        for rule in group["rules"]
        if rule.get("lastError")
    ]
    assert broken == []


def test_the_readme_names_the_rows_that_are_added() -> None:
    assert {*re.findall(r"^(DCGM_\w+), +\w+,", README, re.MULTILINE)} == ADDED.keys()
    assert not ADDED.keys() & SHIPPED.keys()


def test_the_fleet_shows_only_rows_that_the_rules_read() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in ADAPTERS.glob("dcgm*.yaml"))
    unread = {name for name in {**SHIPPED, **ADDED} if not re.search(rf"\b{name}\b", rules)}
    assert unread == {"DCGM_FI_DEV_MEM_CLOCK", "DCGM_FI_PROF_PCIE_TX_BYTES"}
