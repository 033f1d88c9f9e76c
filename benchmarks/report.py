"""Measurements as a table: medians, ratios to the peers, and whether each target holds."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from benchmarks.measure import Busy, Scraped
from benchmarks.programs import WorkerUse
from stack.programs import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Effort

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- begin table -->", "<!-- end table -->"
HEAD = (
    "| row | what | this machine | composed | AI node | node_exporter | prometheus-client "
    "| ratio, composed | ratio, AI node | target | AI node: held? |"
)


@dataclass(slots=True)
class Loaded:
    """What was measured under one load, beside the peers in the same rounds."""

    name: str
    series: int
    at_once: Scraped = field(default_factory=Scraped)
    paced: Scraped = field(default_factory=Scraped)
    yardstick_at_once: Scraped = field(default_factory=Scraped)
    yardstick_paced: Scraped = field(default_factory=Scraped)
    copy_at_once: Scraped = field(default_factory=Scraped)
    copy_paced: Scraped = field(default_factory=Scraped)
    lateness_ms: list[float] = field(default_factory=list)
    sleeper_ms: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)
    slow_rest: list[float] = field(default_factory=list)
    rss_mib: float = 0.0
    copy_rss_mib: float = 0.0


@dataclass(slots=True)
class Report:
    """Everything of one run; percentages are of one core."""

    effort: Effort
    load_before: float
    loads: list[Loaded] = field(default_factory=list)
    yardstick_series: int = 0
    yardstick_rss_mib: float = 0.0
    yardstick_rest: list[float] = field(default_factory=list)
    full_rest: list[float] = field(default_factory=list)
    full_rss_mib: float = 0.0
    full_series: int = 0
    yardstick_start_ms: list[float] = field(default_factory=list)
    start_ms: dict[str, list[float]] = field(default_factory=dict)
    help_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)
    growth_mib: float = 0.0
    growth_scrapes: int = 0
    yardstick_growth_mib: float = 0.0
    yardstick_growth_scrapes: int = 0
    worker: WorkerUse = field(default_factory=lambda: WorkerUse(0.0, 0.0))
    busy: Busy = field(default_factory=lambda: Busy([], 0.0, []))
    load_after: float = 0.0
    seconds: float = 0.0

    def text(self) -> str:
        """The machine, the table and what it leaves out, as Markdown."""
        lines = [*self._machine(), "", HEAD, "|---" * HEAD.count(" | ") + "|---|"]
        lines += [*self._scraping(), *self._memory(), *self._at_rest(), *self._starting()]
        lines += self._lateness()
        return "\n".join(lines) + "\n"

    def _machine(self) -> list[str]:
        program = locate("node_exporter")
        version = program.version if program else "?"
        build = sys.version.split()[0]
        return [
            (
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {self.seconds / 60:.0f} min, "
                f"{self.effort.rounds} rounds; {_cpu()}, {os.cpu_count()} cores, Linux "
                f"{platform.release()}, load average {self.load_before:.2f} before, "
                f"{self.load_after:.2f} after the busy loops; Python {build} ({_python()}), "
                f"node_exporter {version}, prometheus-client {_version('prometheus_client')}."
            ),
            "",
            "Series: "
            + ", ".join(f"{loaded.name} {loaded.series}" for loaded in self.loads)
            + f", node_exporter {self.yardstick_series}.",
        ]

    def _scraping(self) -> list[str]:
        loads = self.loads
        rows = [
            ("3", "scrape p50, paced, ms", "paced", 50, 0.05),
            ("3", "scrape p99, paced, ms", "paced", 99, 0.3),
            ("3", "scrape p50, one client at once, ms", "at_once", 50, 0.05),
            ("3", "scrape p99, one client at once, ms", "at_once", 99, 0.3),
        ]
        lines = []
        for number, what, which, percent, target in rows:
            ours = [_percentile(getattr(it, which).milliseconds, percent) for it in loads]
            peers = [
                _percentile(getattr(it, f"yardstick_{which}").milliseconds, percent) for it in loads
            ]
            copies = [
                _percentile(getattr(it, f"copy_{which}").milliseconds, percent) for it in loads
            ]
            lines.append(_row(number, what, ours, peers, copy=copies[-1], target=target, to="NE"))
        ours = [median(it.paced.cpu_ms) for it in loads]
        peers = [median(it.yardstick_paced.cpu_ms) for it in loads]
        copies = [median(it.copy_paced.cpu_ms) for it in loads]
        what = "CPU per gzip scrape, rendered anew, ms"
        lines.append(
            _row("2", what, ours, peers, copy=copies[-1], target=0.10, to="PC", copies=copies)
        )
        ours = [median(it.at_once.cpu_ms) for it in loads]
        peers = [median(it.yardstick_at_once.cpu_ms) for it in loads]
        copies = [median(it.copy_at_once.cpu_ms) for it in loads]
        what = "CPU per gzip scrape, one client at once, ms"
        lines.append(_row("", what, ours, peers, copy=copies[-1], to="NE"))
        return lines

    def _memory(self) -> list[str]:
        ours = [it.rss_mib for it in self.loads]
        peers = [self.yardstick_rss_mib] * len(ours)
        copy = self.loads[-1].copy_rss_mib
        row = _row(
            "4",
            f"RSS after {self.effort.scrapes_before_rss:,} scrapes, MiB",
            ours,
            peers,
            copy=copy,
            target=1.0,
            to="NE",
        )
        held = "yes" if self.growth_mib <= 1 else "no"
        return [
            row,
            (
                f"| 5 | RSS gained under 8 gzip clients in {self.effort.growth_s:.0f} s, MiB "
                f"(scrapes) | | | {self.growth_mib:.2f} ({self.growth_scrapes:,}) "
                f"| {self.yardstick_growth_mib:.2f} ({self.yardstick_growth_scrapes:,}) | | | "
                f"| <= 1 MiB | {held} |"
            ),
        ]

    def _at_rest(self) -> list[str]:
        peers = [median(self.yardstick_rest)] * len(self.loads)
        each = [median(it.rest) for it in self.loads]
        fifth = [median(it.slow_rest) for it in self.loads]
        window = f"{self.effort.rounds} windows of {self.effort.window_s:.0f} s"
        first = f"CPU at 1 s ticks and 15 s scrapes, % of a core ({window})"
        held = "yes" if each[-1] <= 0.12 else "no"  # noqa: PLR2004  # the target
        full = median(self.full_rest)
        full_held = "yes" if full <= 0.12 else "no"  # noqa: PLR2004  # the target
        return [
            _row("6", first, each, peers, target=2.0, to="NE"),
            (
                f"| 6 | the same, in % of a core | {' | '.join(f'{value:.3f}' for value in each)} "
                f"| | | | | <= 0.12 % | {held} |"
            ),
            (
                f"| 6 | the same with 250 pods and 3,000 processes (RSS {self.full_rss_mib:.1f} "
                f"MiB, {self.full_series} series) | | | {full:.3f} | {peers[0]:.3f} | | "
                f"| {full / peers[0]:.3f} | <= 0.12 % | {full_held} |"
            ),
            _row("7", "the same at 5 s ticks", fifth, peers, target=0.6, to="NE"),
            (
                f"| | GPU worker beside it: CPU, % of a core; RSS, MiB | | "
                f"| {self.worker.cpu_percent:.2f}; {self.worker.rss_mib:.1f} | | | | | | |"
            ),
            "| | CPU seconds per hour at 1 s ticks | "
            + " | ".join(f"{value * 36:.1f}" for value in each)
            + f" | {peers[0] * 36:.1f} | | | | | |",
        ]

    def _starting(self) -> list[str]:
        ours = [median(self.start_ms[it.name]) for it in self.loads]
        peers = [median(self.yardstick_start_ms)] * len(ours)
        ratio = median(self.help_ms) / median(self.bare_ms)
        held = "yes" if ratio <= 4 else "no"  # noqa: PLR2004  # the target
        return [
            _row("9", "start to first scrape, ms", ours, peers, target=3.0, to="NE"),
            (
                f"| 9 | `--help`, ms | {median(self.help_ms):.0f} | | | bare Python "
                f"{median(self.bare_ms):.0f} | | | {ratio:.1f} | <= 4 of bare Python "
                f"| {held} |"
            ),
        ]

    def _lateness(self) -> list[str]:
        def row(what: str, values: Sequence[float | None], target: str, held: str) -> str:
            shown = " | ".join("" if value is None else f"{value:.2f}" for value in values)
            return f"| 11 | {what} | {shown} | | | | | {target} | {held} |"

        rows = []
        for percent, target in ((50, 0.15), (99, 1.0)):
            late = [_percentile(it.lateness_ms, percent) for it in self.loads]
            held = "yes" if late[-1] <= target else "no"
            what = f"tick lateness at 10 Hz, p{percent}, ms"
            rows.append(row(what, late, f"<= {target:g} ms", held))
            bare = [_percentile(it.sleeper_ms, percent) for it in self.loads]
            rows.append(row(f"a program that only sleeps, beside it, p{percent}, ms", bare, "", ""))
        busy = _percentile(self.busy.lateness_ms, 99)
        held = "yes" if busy <= 10 else "no"  # noqa: PLR2004  # the target
        what = "the same with a busy loop on each core, p99, ms"
        rows.append(row(what, (None, busy, None), "<= 10 ms", f"{held} (composed)"))
        what = "a program that only sleeps, beside both, p99, ms"
        rows.append(row(what, (None, _percentile(self.busy.sleeper_ms, 99), None), "", ""))
        drift = self.busy.drift_ticks
        held = "yes" if abs(drift) <= 1 else "no"
        what = f"ticks too many or few in {self.effort.busy_s:.0f} s of that"
        rows.append(row(what, (None, drift, None), "0, within one", f"{held} (composed)"))
        return rows


def _row(
    number: str,
    what: str,
    ours: Sequence[float],
    peers: Sequence[float],
    *,
    copy: float | None = None,
    target: float | None = None,
    to: str,
    copies: Sequence[float] = (),
) -> str:
    """One line; the ratio is to node_exporter (NE) or to prometheus-client (PC)."""
    against = copies if to == "PC" else peers
    ratios = [mine / theirs for mine, theirs in zip(ours, against, strict=True)]
    shown = " | ".join(_short(value) for value in ours)
    wanted = "" if target is None else f"<= {target:g} of {to}"
    held = "" if target is None else ("yes" if ratios[-1] <= target else "no")
    peer = _short(median(peers))
    return (
        f"| {number} | {what} | {shown} | {peer} | {'' if copy is None else _short(copy)} "
        f"| {ratios[1]:.3f} | {ratios[-1]:.3f} | {wanted} | {held} |"
    )


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004  # digits


def _percentile(values: Sequence[float], percent: int) -> float:
    return median(values) if percent == 50 else quantiles(values, n=100)[percent - 1]  # noqa: PLR2004  # the middle


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _python() -> str:
    """Whose build it is: distributions' builds are a third faster than a plain one."""
    system = Path(sys.executable).resolve().is_relative_to("/usr/bin")
    return "the system's build" if system else "not the system's build"


def _version(package: str) -> str:
    command = f"from importlib.metadata import version; print(version({package!r}))"
    answer = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "?"


def write(report: Report) -> None:
    """Put the table between the marks of the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{report.text()}{END}{after}", encoding="utf-8")
