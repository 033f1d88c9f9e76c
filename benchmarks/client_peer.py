"""The same series through prometheus-client: `python -m benchmarks.client_peer URL PORT`.

Fetches an exposition once and serves it as its own, from a custom collector, which is the cheapest
way prometheus-client offers.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator


class Copied:
    """A collector that gives samples copied from elsewhere, as fresh families for each scrape."""

    def __init__(self, text: str) -> None:
        """Take the samples of an exposition."""
        self._families = tuple(text_string_to_metric_families(text))

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        for copied in self._families:
            family = Metric(copied.name, copied.documentation, copied.type)
            for sample in copied.samples:
                family.add_sample(sample.name, sample.labels, sample.value)
            yield family


def main(url: str, port: int) -> None:
    """Serve until killed."""
    with urlopen(url) as answer:  # noqa: S310  # a loopback address of the benchmark's
        text = answer.read().decode()
    registry = CollectorRegistry()
    registry.register(Copied(text))
    start_http_server(port, addr="127.0.0.1", registry=registry)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
