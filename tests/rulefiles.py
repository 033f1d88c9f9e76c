"""Reads the shipped rule files and their promtool tests, for the tests that check them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
ALERTS: Final = ROOT / "alerts"
RULE_FILES: Final = (ALERTS / "recording.yaml", ALERTS / "alerting.yaml")
RULE_TESTS: Final = tuple(sorted((ALERTS / "tests").glob("*.yaml")))
_DURATION: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Rule(NamedTuple):
    """One rule with the group it stands in; `alert` or `record` is its name, the other is ""."""

    group: str
    alert: str
    record: str
    expr: str
    for_s: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Expected(NamedTuple):
    """What a promtool test expects of one alert at one moment: label sets, none if silent."""

    file: str
    alert: str
    alerts: tuple[Mapping[str, str], ...]


def groups() -> Iterator[Mapping[str, Any]]:
    """Every rule group, as written."""
    for path in RULE_FILES:
        yield from yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]


def rules() -> tuple[Rule, ...]:
    """Every rule, in order of evaluation."""
    return tuple(
        Rule(
            group["name"],
            rule.get("alert", ""),
            rule.get("record", ""),
            rule["expr"],
            seconds(rule.get("for", "0s")),
            rule.get("labels", {}),
            rule.get("annotations", {}),
        )
        for group in groups()
        for rule in group["rules"]
    )


def recorded_names() -> frozenset[str]:
    """Names of all recorded series."""
    return frozenset(rule.record for rule in rules() if rule.record)


def expectations() -> tuple[Expected, ...]:
    """Every alert check of every promtool test."""
    return tuple(
        Expected(
            path.name,
            check["alertname"],
            tuple(alert["exp_labels"] for alert in check["exp_alerts"]),
        )
        for path in RULE_TESTS
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for check in case.get("alert_rule_test", ())
    )


def seconds(text: str) -> float:
    """Length of a Prometheus duration such as 1h30m, in seconds."""
    return float(sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)))
