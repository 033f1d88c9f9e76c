"""The measurements; every one interleaves joulefloor with its peers on the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.programs import command_of, cpu_s, environment, rss_mib
from benchmarks.scrape import Scraper, values_of
from stack.processes import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.programs import Load
    from stack.processes import Peer

PACE_S = 0.1
"""Between paced scrapes; the daemon that is paced ticks as often, so each scrape is rendered."""
SCRAPE_EVERY_S = 15.0
LATENESS = "joulefloor_tick_lateness_seconds"
TICKS = "joulefloor_ticks_total"
BUSY_LOOP = "while True: pass"
BARE = "pass"
SLEEPER = f"""
import time
due = time.monotonic()
while True:
    due += {PACE_S}
    time.sleep(max(0.0, due - time.monotonic()))
    print((time.monotonic() - due) * 1e3, flush=True)
"""


class Effort(NamedTuple):
    """How long to measure: `rounds` of everything, `window_s` of CPU at rest, and so on."""

    rounds: int
    scrapes: int
    paced: int
    window_s: float
    starts: int
    growth_s: float
    busy_s: float
    scrapes_before_rss: int


FULL = Effort(5, 40, 40, 30.0, 7, 60.0, 20.0, 1_000)
QUICK = Effort(1, 10, 10, 3.0, 1, 2.0, 2.0, 100)


@dataclass(slots=True)
class Scraped:
    """What scraping one program showed: milliseconds each, and CPU milliseconds per scrape."""

    milliseconds: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def scrape_at_once(peer: Peer, count: int, into: Scraped) -> None:
    """One client that asks again as soon as it is answered."""
    with Scraper(peer.address) as scraper:
        scraper.scrape()
        before = cpu_s(peer)
        times = [scraper.scrape().milliseconds for _ in range(count)]
        into.cpu_ms.append((cpu_s(peer) - before) * 1e3 / count)
        into.milliseconds += times


def scrape_paced(peers: Mapping[Peer, Scraped], count: int) -> list[str]:
    """Scrape each peer once in PACE_S, one after the other; gives the first one's expositions.

    The CPU of a scrape is what the same time costs with scrapes less what it costs without.
    """
    first = next(iter(peers))
    texts: list[str] = []
    resting = {peer: -cpu_s(peer) for peer in peers}
    time.sleep(count * PACE_S)
    resting = {peer: before + cpu_s(peer) for peer, before in resting.items()}
    scrapers = {peer: Scraper(peer.address) for peer in peers}
    before = {peer: cpu_s(peer) for peer in peers}
    due = time.monotonic()
    for _ in range(count):
        for peer, scraper in scrapers.items():
            answer = scraper.scrape()
            peers[peer].milliseconds.append(answer.milliseconds)
            if peer is first:
                texts.append(answer.text)
            due += PACE_S / len(peers)
            time.sleep(max(0.0, due - time.monotonic()))
    for peer, scraper in scrapers.items():
        used_s = cpu_s(peer) - before[peer] - resting[peer]
        peers[peer].cpu_ms.append(used_s * 1e3 / count)
        scraper.close()
    return texts


def lateness_ms(texts: Iterable[str]) -> list[float]:
    """How late each tick that was seen began."""
    return [value * 1e3 for text in texts for value in values_of(text, LATENESS)]


@contextmanager
def sleeping(late_ms: list[float]) -> Iterator[None]:
    """Add how late a program wakes that only sleeps, as often as the daemon ticks."""
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sleeper:
        try:
            yield
        finally:
            sleeper.kill()
            late_ms += [float(line) for line in (sleeper.stdout or ()) if line.endswith("\n")]


def rest(peers: Sequence[Peer], seconds: float) -> dict[Peer, float]:
    """Share of a core that each uses while it is scraped every SCRAPE_EVERY_S, in percent."""
    scrapers = [Scraper(peer.address) for peer in peers]
    before = {peer: cpu_s(peer) for peer in peers}
    started = time.monotonic()
    scrapes = max(1, round(seconds / SCRAPE_EVERY_S))
    for number in range(scrapes):
        due = started + (number + 0.5) * seconds / scrapes
        time.sleep(max(0.0, due - time.monotonic()))
        for scraper in scrapers:
            scraper.scrape()
    time.sleep(max(0.0, started + seconds - time.monotonic()))
    elapsed = time.monotonic() - started
    used = {peer: (cpu_s(peer) - before[peer]) / elapsed * 100 for peer in peers}
    for scraper in scrapers:
        scraper.close()
    return used


def growth_mib(peer: Peer, seconds: float, clients: int = 8) -> tuple[float, int]:
    """Memory gained under clients that never pause, and how many scrapes they got."""
    stop = threading.Event()
    counts = [0] * clients

    def ask(number: int) -> None:
        with Scraper(peer.address) as scraper:
            while not stop.is_set():
                scraper.scrape()
                counts[number] += 1

    before = rss_mib(peer)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return rss_mib(peer) - before, sum(counts)


class Busy(NamedTuple):
    """Ticks while every core is busy: how late, and how many more or fewer than there should be."""

    lateness_ms: list[float]
    drift_ticks: float
    sleeper_ms: list[float]


def under_load(peer: Peer, seconds: float, cores: int) -> Busy:
    """Watch a daemon that ticks every PACE_S while a busy loop runs on each core."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(cores)]
    late: list[float] = []
    idle: list[float] = []
    try:
        with sleeping(idle), Scraper(peer.address) as scraper:
            begin = scraper.scrape().text
            started = time.monotonic()
            while time.monotonic() - started < seconds:
                time.sleep(PACE_S)
                late += lateness_ms([scraper.scrape().text])
            end, elapsed = scraper.scrape().text, time.monotonic() - started
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    ticks = values_of(end, TICKS)[0] - values_of(begin, TICKS)[0]
    return Busy(late, ticks - elapsed / PACE_S, idle)


def start_to_scrape_ms(command: Sequence[str], port: int, sign: str, directory: Path) -> float:
    """From starting a program to the end of the first scrape that holds a line with `sign`."""
    scraper = Scraper(f"{LOOPBACK}:{port}")
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        env=_surroundings(directory),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while True:
                try:
                    if f"\n{sign}" in scraper.scrape().text:
                        return (time.perf_counter() - started) * 1e3
                except OSError:
                    scraper.close()
                time.sleep(0.002)
        finally:
            scraper.close()
            process.terminate()


def start_daemon_ms(load: Load, directory: Path) -> float:
    """The same for joulefloor."""
    port = free_port()
    command = command_of(load, directory, port)
    return start_to_scrape_ms(command, port, "joulefloor_source_up", directory)


def start_yardstick_ms(program: Path, directory: Path) -> float:
    """The same for node_exporter."""
    port = free_port()
    command = [str(program), f"--web.listen-address={LOOPBACK}:{port}"]
    return start_to_scrape_ms(command, port, "node_cpu_seconds_total", directory)


def run_ms(words: Sequence[str], directory: Path) -> float:
    """How long Python takes for a command, from start to end."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        check=True,
        env=_surroundings(directory),
        stdout=subprocess.DEVNULL,
    )
    return (time.perf_counter() - started) * 1e3


def _surroundings(directory: Path) -> dict[str, str]:
    return os.environ | environment(directory)
