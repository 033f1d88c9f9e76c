"""Every metric, recorded series and label that rules, documents and dashboards name exists."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from joulefloor import catalogue
from joulefloor.catalogue import Kind
from tests.rulefiles import ROOT, foreign_metrics, recorded_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACES: Final = (
    "alerts/**/*.yaml",
    "alerts/**/*.yml",
    "alerts/**/*.md",
    "README.md",
    "CHANGELOG.md",
    "exporter/*.md",
    "dashboards/**/*.json",
    "dashboards/**/*.md",
    "helm/**/*.yaml",
    "helm/**/*.yml",
    "helm/**/*.json",
    "helm/**/*.md",
    "helm/**/*.txt",
)
TARGET_LABELS: Final = frozenset({"job", "instance", "cluster", "rack"})
"""Labels that scrape configurations set; rules may keep them and must do without the last two."""
POD_LABELS: Final = frozenset({"namespace", "pod"})
"""Labels of the targets that are inference servers."""
ALERT_LABELS: Final = frozenset(
    {"alertname", "alertstate", "severity", "cost", "boundary", "missing", "window", "mismatch"}
)
INFERENCE_LABELS: Final = frozenset(
    {"workload", "server", "role", "unit", "basis", "state", "definition", "factor", "pue_source"}
    | {"year"}
)
"""Labels that rules themselves set."""
DASHBOARD_LABELS: Final = frozenset({"batch", "short"})
"""Labels that panels add to what they show."""
FOREIGN: Final = {name: labels for name, (_, labels) in foreign_metrics().items()}
"""Metrics of inference servers."""
OWN: Final = {row.name: frozenset(row.labels) for row in catalogue.METRICS}
LABELS_OF: Final = FOREIGN | OWN
ALL_LABELS: Final = frozenset().union(
    *LABELS_OF.values(),
    TARGET_LABELS,
    POD_LABELS,
    ALERT_LABELS,
    INFERENCE_LABELS,
    DASHBOARD_LABELS,
)
FAMILIES: Final = frozenset(
    row.name.removesuffix("_total").removesuffix("_info")
    for row in catalogue.METRICS
    if row.kind is not Kind.GAUGE
)
"""How OpenMetrics calls counters and infos in its # TYPE lines."""

TOKEN: Final = re.compile(r"(?<![\w:./@-])((?:[a-z]+:)?joulefloor_\w+(?::\w+)*)(\*?)")
MATCHERS: Final = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)?\{(?P<body>\s*\w+\s*(?:=~|!~|!=|=)\s*\"[^{}]*)\}"
)
MATCHER: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"(?:[^\"\\]|\\.)*\"")
GROUPING: Final = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([\w\s,]*)\)", re.IGNORECASE
)


class Stray(NamedTuple):
    """A name that does not exist, where it stands, and the nearest that does."""

    place: str
    line: int
    token: str
    nearest: str

    def __str__(self) -> str:
        """One line a person can act on."""
        found = f"{self.place}:{self.line}: {self.token} does not exist"
        return f"{found}; did you mean {self.nearest}?"


def strays(place: str, text: str) -> Iterator[Stray]:
    """Find every name in a text that neither the catalogue nor a rule knows."""
    text = text.replace('\\"', '"')
    for at, token, known in (*stray_names(text), *stray_labels(text)):
        nearest = get_close_matches(token, sorted(known), n=1, cutoff=0.0)
        yield Stray(place, text.count("\n", 0, at) + 1, token, "".join(nearest))


def stray_names(text: str) -> Iterator[tuple[int, str, frozenset[str]]]:
    names = frozenset(OWN) | recorded_names()
    for found in TOKEN.finditer(text):
        token, star = found.groups()
        if star:
            exists = any(name.startswith(token) for name in names)
        else:
            exists = token in names or token in FAMILIES
        if not exists:
            yield found.start(), token, names


def stray_labels(text: str) -> Iterator[tuple[int, str, frozenset[str]]]:
    for found in MATCHERS.finditer(text):
        known = labels_of(found["name"] or "")
        for matcher in MATCHER.finditer(found["body"]):
            if matcher[1] not in known:
                yield found.start("body") + matcher.start(), matcher[1], known
    for found in GROUPING.finditer(text):
        for label in re.findall(r"\w+", found[1]):
            if label not in ALL_LABELS:
                yield found.start(), label, ALL_LABELS


def labels_of(name: str) -> frozenset[str]:
    """Labels that may be matched on a series of that name; recorded ones have any we know."""
    if name in LABELS_OF:
        return LABELS_OF[name] | TARGET_LABELS | POD_LABELS
    if name == "up":
        return TARGET_LABELS
    return ALL_LABELS | {"__name__"}


def files() -> list[Path]:
    """Every place but the adapters, whose names are other people's: tests/prom/test_adapters.py."""
    return sorted(
        {
            path
            for place in PLACES
            for path in ROOT.glob(place)
            if path.is_file() and not (path.suffix == ".yaml" and "adapters" in path.parts)
        }
    )


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_exists(path: Path) -> None:
    found = [*strays(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(map(str, found))


def test_the_rules_and_their_documents_are_looked_at() -> None:
    looked_at = {str(path.relative_to(ROOT)) for path in files()}
    assert {"alerts/recording.yaml", "alerts/alerting.yaml", "alerts/RUNBOOK.md"} <= looked_at
    assert "alerts/tests/recording.yaml" in looked_at


@pytest.mark.parametrize(
    ("text", "line", "token", "nearest"),
    [
        (
            "a\nrate(joulefloor_component_energy_joule_total[5m])",
            2,
            "joulefloor_component_energy_joule_total",
            "joulefloor_component_energy_joules_total",
        ),
        (
            "node:joulefloor_it_power_watts:avg",
            1,
            "node:joulefloor_it_power_watts:avg",
            "node:joulefloor_it_power_watts:sum",
        ),
        ('joulefloor_source_up{sourc="rapl"}', 1, "sourc", "source"),
        (r'"expr": "joulefloor_source_up{sources=\"gpu\"}"', 1, "sources", "source"),
        ("sum by (instance, devcie) (up)", 1, "devcie", "device"),
        ("joulefloor_sorce_*", 1, "joulefloor_sorce_", "joulefloor_source_up"),
    ],
)
def test_a_wrong_name_is_reported_with_its_line_and_the_nearest_right_one(
    text: str, line: int, token: str, nearest: str
) -> None:
    (found,) = strays("f", text)
    assert found == Stray("f", line, token, nearest)
    assert str(found) == f"f:{line}: {token} does not exist; did you mean {nearest}?"


@pytest.mark.parametrize(
    "text",
    [
        'joulefloor_source_up{source="rapl", job=~"$job", instance=~".*"}',
        "`joulefloor_source_*` and joulefloor_build_info and # TYPE joulefloor_build info",
        "https://github.com/joulefloor/joulefloor and joulefloor.sources",
        'sum without (component) (node:joulefloor_it_power_watts:sum{cluster="x"})',
        "summary: '{{ $labels.source }}' of {instance}",
    ],
)
def test_right_names_and_plain_text_pass(text: str) -> None:
    assert not [*strays("f", text)]
