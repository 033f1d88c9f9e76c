"""Words what a running daemon measures now, and what it does not, for the person at `make run`."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from stack.query import fetch, fetch_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMPONENT_POWER: Final = "joulefloor_component_power_watts"
NODE_POWER: Final = "joulefloor_node_power_watts"
WIDEST: Final = 100


class Meter(NamedTuple):
    """The power of one component, or of the whole node, as the daemon exposes it."""

    component: str
    device: str
    watts: float
    method: str
    source: str


class Gap(NamedTuple):
    """Something that is not measured, and why."""

    source: str
    why: str


def read_meters(daemon_url: str) -> list[Meter]:
    """List the powers in /metrics; empty before the first tick that has one.

    Raises:
        QueryError: the daemon does not answer.
    """
    text = fetch(f"{daemon_url}/metrics").decode()
    return [
        Meter(
            sample.labels.get("component", "whole node"),
            sample.labels.get("device", ""),
            sample.value,
            sample.labels.get("method", ""),
            sample.labels.get("source", ""),
        )
        for family in text_string_to_metric_families(text)
        if family.name in (COMPONENT_POWER, NODE_POWER)
        for sample in family.samples
    ]


def read_gaps(daemon_url: str) -> list[Gap]:
    """List what /status says is missing.

    Raises:
        QueryError: the daemon does not answer.
    """
    status: dict[str, Any] = fetch_json(f"{daemon_url}/status")
    return [Gap(str(row["source"]), str(row["text"])) for row in status["warnings"]]


def word_report(meters: Sequence[Meter], gaps: Sequence[Gap], *, demo: bool) -> str:
    """Lay out both lists for a terminal."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    subject = "the first of the simulated machines" if demo else "this machine"
    lines = [f"What {subject} draws now", ""]
    if meters:
        lines += _table(meters)
    else:
        lines.append("  Nothing here reports or allows to model its power.")
    if gaps:
        lines += ["", "What is not measured, and why", ""]
        for gap in gaps:
            lines += _entry(gap.source, gap.why, width)
    return "\n".join(lines)


def word_links(links: Iterable[tuple[str, str]]) -> str:
    """Lay out names and addresses, one a line."""
    return "\n".join(f"  {name:<13} {place}" for name, place in links)


def _table(meters: Sequence[Meter]) -> list[str]:
    heads = ("component", "device", "watts", "method", "source")
    rows = [
        (meter.component, meter.device, f"{meter.watts:.2f}", meter.method, meter.source)
        for meter in meters
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[2] = row[2].rjust(widths[2])
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _entry(name: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width=max(width, 40),
        initial_indent=f"  {name:<10} ",
        subsequent_indent=" " * 13,
        break_long_words=False,
        break_on_hyphens=False,
    )
