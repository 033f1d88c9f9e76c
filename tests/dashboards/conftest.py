"""The fleet of real daemons, and the three servers that scraped it, for a whole test session."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from stack.peers import start_prometheus, start_victoriametrics
from stack.processes import LOOPBACK, Peer, free_port, launch
from stack.query import fetch
from tests.browser.conftest import drawing
from tests.dashboards.fleet import fleet, hurried_rules, scraping
from tests.nvml.build import compiler
from tests.patience import PATIENCE_S
from tests.prom.required import NEWEST_FIRST, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["drawing"]


class Server(NamedTuple):
    """A server that scrapes the fleet and evaluates our rules."""

    name: str
    url: str

    def flush(self) -> None:
        """Show what was just written: VictoriaMetrics waits ten seconds with each new series."""
        if self.name == "victoriametrics":
            fetch(f"{self.url}/internal/force_flush")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Prometheus 2 and 3 and VictoriaMetrics, all over the same daemons."""
    if compiler() is None:
        reason = "gcc is not installed: apt-get install gcc libc6-dev"
        (pytest.fail if os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1" else pytest.skip)(reason)
    programs = {f"prometheus{major}": require("prometheus", major=major) for major in (2, 3)}
    metrics = require("victoriametrics", places=NEWEST_FIRST)
    evaluator = require("vmalert", places=NEWEST_FIRST)
    folder = tmp_path_factory.mktemp("fleet")
    rules = hurried_rules(folder)
    with ExitStack() as started:
        config = scraping(started.enter_context(fleet(folder / "nodes")), rules)
        found = {
            name: start_prometheus(program, folder / name, config)
            for name, program in programs.items()
        }
        found["victoriametrics"] = start_victoriametrics(metrics, folder / "vm", config)
        for peer in found.values():
            started.enter_context(peer)
        vm = found["victoriametrics"].url
        started.enter_context(start_vmalert(evaluator.path, folder / "vmalert", vm, rules))
        yield {name: Server(name, peer.url) for name, peer in found.items()}


def start_vmalert(program: Path, folder: Path, url: str, rules: Sequence[Path]) -> Peer:
    """The rules over VictoriaMetrics, written back into it."""
    port = free_port()
    command: list[str | Path] = [
        program,
        *(f"-rule={path}" for path in rules),
        f"-datasource.url={url}",
        f"-remoteWrite.url={url}",
        "-remoteWrite.flushInterval=100ms",
        "-notifier.blackhole",
        # By default it evaluates half a minute in the past, where there is nothing yet.
        "-rule.evalDelay=0s",
        f"-httpListenAddr={LOOPBACK}:{port}",
    ]
    return launch("vmalert", command, port=port, directory=folder).await_ready(
        "/health", within_s=PATIENCE_S
    )
