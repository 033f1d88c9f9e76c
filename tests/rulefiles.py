"""Reads the shipped rule files and their promtool tests, for the tests that check them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
ALERTS: Final = ROOT / "alerts"
RECORDING: Final = tuple(
    ALERTS / f"{name}.yaml"
    for name in ("recording", "link-energy", "servers", "inference", "workloads")
)
ALERTING: Final = tuple(
    ALERTS / f"{name}.yaml" for name in ("alerting", "inference-alerts", "accelerators")
)
RULE_FILES: Final = (*RECORDING, *ALERTING)
EXPOSITIONS: Final = ROOT / "tests" / "prom" / "expositions"
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


@cache
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


@cache
def foreign_metrics() -> dict[str, tuple[str, frozenset[str]]]:
    """Metrics of inference servers, from their sample expositions: type and labels by name."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for path in sorted(EXPOSITIONS.glob("*.txt")):
        kind = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("# TYPE "):
                kind = line.split()[3]
            elif line and not line.startswith("#"):
                name, labels = re.split(r"[ {]", line, maxsplit=1)[0], re.findall(r"(\w+)=\"", line)
                known = found.get(name, ("", frozenset[str]()))[1]
                found[name] = ("gauge" if kind == "gauge" else "counter", known | {*labels})
    return found


@cache
def recorded_names() -> frozenset[str]:
    """Names of all recorded series."""
    return frozenset(rule.record for rule in rules() if rule.record)


@cache
def rule_tests() -> Mapping[Path, Any]:
    """Every promtool test file, as written."""
    return {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULE_TESTS}


@cache
def expectations() -> tuple[Expected, ...]:
    """Every alert check of every promtool test."""
    return tuple(
        Expected(
            path.name,
            check["alertname"],
            tuple(alert["exp_labels"] for alert in check["exp_alerts"]),
        )
        for path, content in rule_tests().items()
        for case in content["tests"]
        for check in case.get("alert_rule_test", ())
    )


def seconds(text: str) -> float:
    """Length of a Prometheus duration such as 1h30m, in seconds."""
    return float(sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)))
