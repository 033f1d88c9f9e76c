"""`python -m benchmarks`: joulefloor beside node_exporter and prometheus-client, as a table.

A full run takes some nine minutes, `--quick` one; `--write` puts the table into README.md here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import measure
from benchmarks.machines import BUSY_NODE, FULL_NODE, SMALL, composed
from benchmarks.measure import FULL, QUICK
from benchmarks.programs import (
    Load,
    exposition,
    rss_mib,
    start_copy,
    start_daemon,
    start_yardstick,
    worker_of,
)
from benchmarks.report import Loaded, Report, write
from benchmarks.scrape import Scraper, count_series
from stack.programs import locate
from tests.nvml.scenario import FakeDriver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.machines import Size
    from benchmarks.measure import Effort
    from stack.processes import Peer

GPUS = 8
BOARD = "h100-sxm5"
LOAD_MILLIWATTS = 400_000
SETTLE_S = 3.0
"""Until everything has been read, and what needs two readings too."""


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: shows the form only")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    started = time.monotonic()
    report = _run(QUICK if arguments.quick else FULL)
    report.seconds = time.monotonic() - started
    print(report.text())
    if arguments.write:
        write(report)


def _run(effort: Effort) -> Report:
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        loads = tuple(_loads(running, directory))
        _warm(loads, directory)
        report = Report(effort, load_before=os.getloadavg()[0])
        _measure_starts(report, loads, directory)
        yardstick = running.enter_context(start_yardstick(directory))
        daemons = [running.enter_context(start_daemon(load, directory)) for load in loads]
        time.sleep(SETTLE_S)
        report.yardstick_series = count_series(exposition(yardstick))
        for load, daemon in zip(loads, daemons, strict=True):
            _say(f"scraping: {load.name}")
            report.loads.append(_measure_load(load, daemon, yardstick, effort, directory))
        _scrape_often(yardstick, effort)
        report.yardstick_rss_mib = rss_mib(yardstick)
        _measure_rest(report, loads, daemons, yardstick, directory)
        report.worker = worker_of(daemons[-1])
        _measure_growth(report, daemons[-1], yardstick)
        _measure_busy(report, loads[1], directory)
        return report


def _say(what: str) -> None:
    print(f"... {what} (load average {os.getloadavg()[0]:.2f})", flush=True)


def _loads(running: ExitStack, directory: Path) -> Iterator[Load]:
    """This machine as it is; a composed one; the same with pods and GPUs on the fake driver."""
    yield Load("this machine", {}, None)
    small = running.enter_context(composed(SMALL))
    yield Load("composed", {"sampling": {"tick": "1s"}}, small)
    yield node("AI node", BUSY_NODE, running, directory)


def node(name: str, size: Size, running: ExitStack, directory: Path) -> Load:
    """A machine with pods and GPUs."""
    root = running.enter_context(composed(size))
    driver = FakeDriver(directory / name.replace(" ", "-"))
    for number in range(GPUS):
        driver.gpu(number, BOARD).put("load", LOAD_MILLIWATTS)
    driver.write()
    return Load(name, {"sources": {"nvml": {"library_folder": str(driver.folder)}}}, root)


def _warm(loads: Sequence[Load], directory: Path) -> None:
    """Have all bytecode written, as it is in an installed package."""
    for load in loads:
        with start_daemon(load, directory) as daemon:
            exposition(daemon)
    measure.run_ms(["-m", "joulefloor", "--help"], directory)
    measure.run_ms(["-c", measure.BARE], directory)


def _measure_starts(report: Report, loads: Sequence[Load], directory: Path) -> None:
    _say("starting")
    program = locate("node_exporter")
    for _ in range(report.effort.starts):
        if program is not None:
            report.yardstick_start_ms.append(measure.start_yardstick_ms(program.path, directory))
        for load in loads:
            times = report.start_ms.setdefault(load.name, [])
            times.append(measure.start_daemon_ms(load, directory))
        report.help_ms.append(measure.run_ms(["-m", "joulefloor", "--help"], directory))
        report.bare_ms.append(measure.run_ms(["-c", measure.BARE], directory))


def _measure_load(
    load: Load, daemon: Peer, yardstick: Peer, effort: Effort, directory: Path
) -> Loaded:
    """Scrape the daemon, one that ticks as often as it is scraped, and both peers."""
    loaded = Loaded(load.name, count_series(exposition(daemon)))
    with (
        start_daemon(load, directory, tick=f"{measure.PACE_S * 1000:.0f}ms") as eager,
        start_copy(daemon, directory) as copy,
    ):
        time.sleep(SETTLE_S)
        for _ in range(effort.rounds):
            measure.scrape_at_once(daemon, effort.scrapes * 5, loaded.at_once)
            measure.scrape_at_once(yardstick, effort.scrapes, loaded.yardstick_at_once)
            measure.scrape_at_once(copy, effort.scrapes // 2, loaded.copy_at_once)
            paced = {eager: loaded.paced, yardstick: loaded.yardstick_paced}
            with measure.sleeping(loaded.sleeper_ms):
                texts = measure.scrape_paced(paced, effort.paced)
            measure.scrape_paced({copy: loaded.copy_paced}, effort.paced)
            loaded.lateness_ms += measure.lateness_ms(texts)
        for peer in (daemon, copy):
            _scrape_often(peer, effort)
        loaded.rss_mib, loaded.copy_rss_mib = rss_mib(daemon), rss_mib(copy)
    return loaded


def _scrape_often(peer: Peer, effort: Effort) -> None:
    """Ask for as many scrapes as the memory is stated after."""
    with Scraper(peer.address) as scraper:
        for _ in range(effort.scrapes_before_rss):
            scraper.scrape()


def _measure_rest(
    report: Report,
    loads: Sequence[Load],
    daemons: Sequence[Peer],
    yardstick: Peer,
    directory: Path,
) -> None:
    """All daemons at once, ticking each second and every five, beside node_exporter."""
    _say("at rest")
    with ExitStack() as running:
        slow = [running.enter_context(start_daemon(load, directory, tick="5s")) for load in loads]
        full = start_daemon(node("full node", FULL_NODE, running, directory), directory)
        running.enter_context(full)
        time.sleep(SETTLE_S)
        for _ in range(report.effort.rounds):
            used = measure.rest([*daemons, *slow, full, yardstick], report.effort.window_s)
            report.yardstick_rest.append(used[yardstick])
            report.full_rest.append(used[full])
            for loaded, each, fifth in zip(report.loads, daemons, slow, strict=True):
                loaded.rest.append(used[each])
                loaded.slow_rest.append(used[fifth])
        report.full_rss_mib = rss_mib(full)
        report.full_series = count_series(exposition(full))


def _measure_growth(report: Report, daemon: Peer, yardstick: Peer) -> None:
    _say("eight clients")
    report.growth_mib, report.growth_scrapes = measure.growth_mib(daemon, report.effort.growth_s)
    report.yardstick_growth_mib, report.yardstick_growth_scrapes = measure.growth_mib(
        yardstick, report.effort.growth_s
    )


def _measure_busy(report: Report, load: Load, directory: Path) -> None:
    _say("busy cores")
    with start_daemon(load, directory, tick=f"{measure.PACE_S * 1000:.0f}ms") as eager:
        time.sleep(SETTLE_S)
        report.busy = measure.under_load(eager, report.effort.busy_s, os.cpu_count() or 1)
        report.load_after = os.getloadavg()[0]


if __name__ == "__main__":
    main()
