"""Where the checks read: the daemon's own exposition, or a Prometheus that scraped it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from stack.query import QueryError, fetch, instant
from tests.e2e.checks import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence


def from_exposition(url: str, names: Sequence[str]) -> list[Sample]:
    """Scrape a daemon; nothing while it does not answer."""
    try:
        text = fetch(f"{url}/metrics").decode()
    except QueryError:
        return []
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in names
    ]


def from_prometheus(url: str, names: Sequence[str]) -> list[Sample]:
    """Ask a Prometheus, which gives all series of one scrape together."""
    found = instant(url, f'{{__name__=~"{"|".join(names)}"}}')
    return [
        Sample(one["metric"]["__name__"], one["metric"], float(one["value"][1])) for one in found
    ]
