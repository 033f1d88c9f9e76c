"""NVIDIA GPUs, through a worker process that alone talks to the driver.

Every call into the driver may hang, crash, or keep the library of a driver that has been replaced.
So this source asks a worker (`joulefloor.nvml`) once per read and turns its frames into readings:
a GPU whose calls hang costs its own channels only, and a worker whose heart stops is killed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, check_bounds
from joulefloor.errors import Reason, SourceError
from joulefloor.frames import Kind
from joulefloor.model import Batch, Channel, Measures, Reading
from joulefloor.remote import Unit
from joulefloor.units import Seconds, nanoseconds_from_seconds
from joulefloor.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.frames import Frame
    from joulefloor.host import Host
    from joulefloor.sources import Site, Source

NAME = "nvml"
LIBRARY = "libnvidia-ml.so.1"
SIGNS = ("dev/nvidiactl", "proc/driver/nvidia/version")
FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib/wsl/lib",
    "usr/lib",
)
RELEASE_FILE = "run/joulefloor/release-gpus"
RELEASE_HOLD_S = 60.0
"""How long the devices are left alone after the worker was sent SIGUSR1."""
FIRST_S = 5.0
"""The first round may take longer: every capability is tried."""
HEARTBEAT_S = 2.0
HEAL_S = (60.0, 120.0, 300.0, 900.0, 3600.0)
"""A new worker finds a GPU again that an old one has lost: waits before each try."""
SILENCE_S = 30.0
"""When no GPU has answered for so long, the worker is replaced."""
MOST_UNITS = 256
FULL = "full"
DETAILS = ("standard", FULL)


@dataclass(frozen=True, slots=True)
class Settings:
    """How NVIDIA GPUs are read."""

    #: time between rounds, > 0
    period: Seconds = Seconds(1.0)
    #: time after which an unanswered read counts as late; only opening the driver takes long, > 0
    deadline: Seconds = Seconds(5.0)
    #: time a round waits for GPUs that were asked; what comes later is taken in the next round, > 0
    patience: Seconds = Seconds(0.5)
    #: time for the driver to open all GPUs before the worker is killed, > 0
    start_deadline: Seconds = Seconds(60.0)
    #: longest time between samples of power, which are integrated beside the energy counter, > 0;
    #: a sensor that was seen to change more often is sampled twice in that time, each 20ms at most;
    #: one that gives the mean of a second is sampled each 500ms unless more is configured
    power_period: Seconds = Seconds(0.1)
    #: whether each process on a GPU becomes a part of its energy (a series per process). Pods that
    #: share a GPU are then billed by what each does there, if the daemon also sees the machine's
    #: process ids (`hostPID: true` in the chart); without both they are billed equally by replicas
    process_parts: bool = False
    #: standard, or full: each GPU also tells its default, least and highest power limit, power of
    #: its memory, further clocks and engines, its performance state, cycles of each pipe, how often
    #: its power is read anew, bytes and replays of PCIe, and, as 0, links, throttle reasons, errors
    #: and precisions that have not occurred
    detail: str = "standard"
    #: folder of libnvidia-ml.so.1 when the loader does not find it (a driver container's)
    library_folder: str = ""

    def __post_init__(self) -> None:
        """Refuse times that cannot work and a level of detail that does not exist."""
        check_bounds(
            self,
            period=POSITIVE,
            deadline=POSITIVE,
            patience=POSITIVE,
            start_deadline=POSITIVE,
            power_period=POSITIVE,
        )
        if self.detail not in DETAILS:
            raise ValueError(f"detail: must be one of {', '.join(DETAILS)}, not {self.detail!r}")


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The source nvml."""
    return (NvmlSource(site),)


class NvmlSource:
    """Asks the worker, and starts, kills and replaces it.

    Reads: nvmlDevice* and nvmlGpm* of libnvidia-ml.so.1 (in the worker), dev/nvidiactl,
        proc/driver/nvidia/version and run/joulefloor/release-gpus.
    Raises: SourceError ABSENT without a driver or while the devices are released, LOST when the
        worker or the driver went away, LATE when nothing answers.
    """

    name = NAME

    def __init__(self, site: Site[Settings]) -> None:
        """Nothing is looked at before the first read."""
        settings = site.settings
        self.period_s: float = settings.period
        self.deadline_s: float = settings.deadline
        self._host = site.host
        self._clock = site.clock
        self._settings = settings
        command = (sys.executable, "-P", "-m", "joulefloor.nvml", f"{settings.power_period:g}")
        folder = settings.library_folder
        extra = {"LD_LIBRARY_PATH": folder} if folder else {}
        switches = (settings.process_parts, settings.detail == FULL)
        words = (*command, *("1" if switch else "0" for switch in switches))
        self.worker = Worker(words, site.clock, extra)
        self._units: dict[int, Unit] = {}
        self._driver: Channel | None = None
        self._asked: set[int] = set()
        self._beat = 0
        self._ready = False
        self._hold_until_ns = 0
        self._was_up = False
        self._gone: set[int] = set()
        self._late_since_ns: dict[int, int] = {}
        self._lost_since_ns: int | None = None
        self._silent_since_ns: int | None = None
        self._heals = 0

    def channels(self) -> tuple[Channel, ...]:
        """Those of the last round; reads one when there was none."""
        if not self._units:
            self.read()
        return tuple(self._all_channels())

    def read(self) -> Batch:
        """One round."""
        try:
            return self._read()
        except SourceError as error:
            self._let_go(well=False, last_words=error.detail)
            raise

    def close(self) -> None:
        """End the worker, which gives the devices back."""
        if self.worker.running:
            self._let_go(well=True)

    # -- a round ---------------------------------------------------------------------------------

    def _read(self) -> Batch:
        self._look_for_driver()
        self._heal()
        first = not self.worker.running
        if first:
            self.worker.start(*self._divided())
        asked = self.worker.ask()
        self._await(asked, FIRST_S if first else self._settings.patience)
        return self._batch()

    def _divided(self) -> Iterator[str]:
        """How far the last worker has divided each GPU's joules, for the next to go on there."""
        for unit in self._units.values():
            if unit.divided is not None:
                yield f"{unit.name}={unit.divided}"

    def _await(self, asked: int, patience_s: float) -> None:
        """Take frames until the round is complete or its time is over.

        Raises:
            SourceError: LATE when the driver does not open or the worker has no heartbeat.
        """
        asked_ns = self._clock.monotonic_ns()
        patience_ns = nanoseconds_from_seconds(patience_s)
        until_ns = asked_ns + patience_ns if self._ready else None
        while not self._complete(asked):
            if not self._ready:
                start_s = self._settings.start_deadline
                limit_ns = self.worker.started_ns + nanoseconds_from_seconds(start_s)
            else:
                until_ns = until_ns or self._clock.monotonic_ns() + patience_ns
                heartbeat_ns = asked_ns + nanoseconds_from_seconds(HEARTBEAT_S)
                limit_ns = until_ns if self._beat == asked else max(until_ns, heartbeat_ns)
            frames = self.worker.receive(limit_ns)
            for frame in frames:
                self._take(frame)
            if not frames and self._clock.monotonic_ns() >= limit_ns:
                self._check_heart(asked)
                return

    def _complete(self, asked: int) -> bool:
        if not self._ready or self._beat != asked:
            return False
        return all(self._units[index].fresh for index in self._asked)

    def _check_heart(self, asked: int) -> None:
        """A slow GPU is no reason to give up, a silent worker is.

        Raises:
            SourceError: LATE.
        """
        if not self._ready:
            seconds = self._settings.start_deadline
            raise SourceError(Reason.LATE, f"the driver did not open within {seconds:g} s")
        if self._beat != asked:
            raise SourceError(Reason.LATE, f"worker {self.worker.pid} has no heartbeat")

    def _take(self, frame: Frame) -> None:
        """Take in one frame.

        Raises:
            SourceError: the worker says that it ends, or what it says makes no sense.
        """
        try:
            self._understand(frame)
        except (ValueError, OverflowError, TypeError, LookupError, AttributeError) as error:
            detail = f"the worker sent a {frame.kind.name} frame that makes no sense: {error}"
            raise SourceError(Reason.GARBLED, detail) from None

    def _understand(self, frame: Frame) -> None:
        body = frame.body
        if frame.kind is Kind.DOWN:
            self._down(Reason(body[0]), str(body[1]))
        elif frame.kind is Kind.HELLO:
            self._welcome(str(body[0]), int(body[1]))
        elif frame.kind is Kind.BEAT:
            beat, ready, asked, busy = body
            self._asked = set(asked)
            if not self._asked <= self._units.keys():
                raise ValueError(f"GPUs that were never told: {asked}")
            for unit in self._units.values():
                unit.stuck = ""
            for index, call, _ in busy:
                self._units[index].stuck = str(call)
            self._beat, self._ready = int(beat), bool(ready)
        elif frame.kind is Kind.ROWS:
            unit, generation, name, rows = body
            self._units[unit].describe(int(generation), str(name), rows)
        else:
            unit, generation, at_ns, values, faults, gone = body
            self._units[unit].take(generation, at_ns, values, faults, gone)

    def _welcome(self, version: str, count: int) -> None:
        """The devices are open; channels of units that were known before stay the same."""
        if not 0 <= count <= MOST_UNITS:
            raise ValueError(f"{count} GPUs")
        labels = ("nvidia", version)
        if self._driver is None or self._driver.labels != labels:
            self._driver = Channel(catalogue.DRIVER_INFO, labels, Measures.LEVEL)
        known = self._units
        self._units = {n: known.get(n) or Unit(f"GPU {n}") for n in range(count)}
        for unit in self._units.values():
            unit.renew()

    def _down(self, reason: Reason, detail: str) -> None:
        if "SIGUSR1" in detail:
            hold_ns = nanoseconds_from_seconds(RELEASE_HOLD_S)
            self._hold_until_ns = self._clock.monotonic_ns() + hold_ns
        elif reason is Reason.ABSENT and self._was_up:
            reason = Reason.LOST
        raise SourceError(reason, detail)

    # -- what came -------------------------------------------------------------------------------

    def _batch(self) -> Batch:
        now_ns = self._clock.monotonic_ns()
        units = self._units
        gone = {n for n, unit in units.items() if unit.gone}
        late = [n for n, unit in units.items() if not unit.fresh]
        batches = {n: unit.batch(now_ns) for n, unit in units.items()}
        readings = [reading for batch in batches.values() for reading in batch.readings]
        faults = [fault for batch in batches.values() for fault in batch.faults]
        if any(unit.holds for unit in units.values()):
            readings.sort(key=_is_published)
        if self._driver is not None and (readings or not units):
            readings.append(Reading(self._driver, 1.0, now_ns))
        self._was_up = self._was_up or bool(readings)
        # A GPU that is gone stays so while it only fails to answer in time.
        mute = {n for n, batch in batches.items() if not batch.readings}
        self._gone = (self._gone | gone) & mute
        self._late_since_ns = {n: self._late_since_ns.get(n, now_ns) for n in late}
        self._note_lost(now_ns)
        self._note_silence(now_ns, silent=not readings and not gone)
        return Batch(tuple(readings), tuple(faults))

    def _all_channels(self) -> Iterator[Channel]:
        if self._driver is not None:
            yield self._driver
        for unit in self._units.values():
            yield from unit.channels

    # -- the worker's life -----------------------------------------------------------------------

    def _look_for_driver(self) -> None:
        """Start nothing where there is nothing to talk to.

        Raises:
            SourceError: ABSENT, or LOST when the driver was there before and nobody released it.
        """
        if self._host.has(RELEASE_FILE):
            detail = f"the devices are released while /{RELEASE_FILE} exists; remove it to go on"
            raise SourceError(Reason.ABSENT, detail)
        if self._clock.monotonic_ns() < self._hold_until_ns:
            raise SourceError(Reason.ABSENT, f"released by SIGUSR1 for {RELEASE_HOLD_S:g} s")
        if not self.worker.running and not _has_driver(self._host):
            reason = Reason.LOST if self._was_up else Reason.ABSENT
            raise SourceError(reason, f"no NVIDIA driver: none of {', '.join(SIGNS)}")

    def _note_lost(self, now_ns: int) -> None:
        """A GPU whose calls hang is lost like one that says so, though it takes a while to tell."""
        silence_ns = nanoseconds_from_seconds(SILENCE_S)
        hung = any(now_ns - since_ns > silence_ns for since_ns in self._late_since_ns.values())
        if not self._gone and not hung:
            self._lost_since_ns, self._heals = None, 0
        elif self._lost_since_ns is None:
            self._lost_since_ns = now_ns

    def _note_silence(self, now_ns: int, *, silent: bool) -> None:
        """Give a worker up whose GPUs all hang: only a new one may get through.

        Raises:
            SourceError: LATE.
        """
        if not silent:
            self._silent_since_ns = None
        elif self._silent_since_ns is None:
            self._silent_since_ns = now_ns
        elif now_ns - self._silent_since_ns > nanoseconds_from_seconds(SILENCE_S):
            self._silent_since_ns = None
            raise SourceError(Reason.LATE, f"no GPU answered for {SILENCE_S:g} s; starting anew")

    def _heal(self) -> None:
        """Now and then a new worker, since the driver shows a reset GPU only to new processes."""
        if self._lost_since_ns is None:
            return
        wait_ns = nanoseconds_from_seconds(HEAL_S[min(self._heals, len(HEAL_S) - 1)])
        if self._clock.monotonic_ns() - self._lost_since_ns < wait_ns:
            return
        # A worker that cannot be ended would keep its successor from the GPUs that answer.
        if not in_kernel(self.worker.pid):
            self._heals += 1
            self._lost_since_ns = self._clock.monotonic_ns()
            self._let_go(well=True)

    def _let_go(self, *, well: bool, last_words: str = "") -> None:
        if self.worker.running:
            self.worker.stop()
            self.worker.lived(well=well, last_words=last_words)
        self._ready = False
        self._asked.clear()
        for unit in self._units.values():
            unit.forget()


def _is_published(reading: Reading) -> bool:
    """Sizes of instances come first: by its first reading the ledger sees that it bills by some."""
    return reading.channel.measures is not Measures.HOLD


def _has_driver(host: Host) -> bool:
    return any(map(host.has, SIGNS)) or any(host.has(f"{f}/{LIBRARY}") for f in FOLDERS)


def in_kernel(pid: int | None) -> bool:
    """Whether a thread of the process waits in the kernel such that no signal ends it, now."""
    return any(map(_is_uninterruptible, Path(f"/proc/{pid}/task").glob("*/stat")))


def _is_uninterruptible(stat: Path) -> bool:
    try:
        text = stat.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(") ")[2].startswith("D")
