"""Writes the scenario that the fake driver follows, and changes it while a program runs on it."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.nvml.build import SONAME, library

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.nvml.curves import Curve

PROFILES = Path(__file__).parent / "profiles"
CYCLES = {2: 249, 5: 250, 8: 251, 7: 252, 9: 253, 6: 254, 4: 257, 11: 258, 12: 259, 13: 260}
"""GPM metric of a pipe in per cent: its counter of cycles since reboot."""
NO_LOAD_ON_MIG = ("utilization.gpu", "utilization.memory")


class CallNote(NamedTuple):
    """One line of the driver's log: who called what on which GPU (-1: none of them)."""

    monotonic_ns: int
    pid: int
    thread: int
    device: str
    function: str


class Instance(NamedTuple):
    """A MIG instance with one compute instance that fills it."""

    gpu_instance: int
    profile: str
    slices: int
    sms: int
    memory_bytes: int
    uuid: str
    busy_percent: float = 0.0


@dataclass(slots=True)
class Section:
    """The lines of one `[...]` of a scenario, for tests that script it."""

    title: str
    keys: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def set(self, **values: float | str | Curve) -> Section:
        """Set keys from now on and from ever; `power__instant` writes `power.instant`."""
        for name, value in values.items():
            self.put(name.replace("__", "."), value)
        return self

    def put(self, key: str, value: float | str | Curve) -> Section:
        """Set one key, whatever it was at any time before."""
        for old in [name for name in self.keys if name.partition("@")[0] == key]:
            del self.keys[old]
        self.keys[key] = str(value)
        return self

    def then(self, at_ns: int, key: str, value: float | str | Curve) -> Section:
        """Let a key have another value from a time of CLOCK_MONOTONIC on; the past stays."""
        self.keys[f"{key}@{at_ns}"] = str(value)
        return self

    def drop(self, *keys: str) -> Section:
        """Take keys away; what asks for them gets NOT_SUPPORTED."""
        for key in keys:
            for old in [name for name in self.keys if name.partition("@")[0] == key]:
                del self.keys[old]
        return self

    def fail(self, function: str, code: int, *, first: int = 0) -> Section:
        """Let a function (or `*`) return an error code, always or only on its first calls."""
        self.faults.append(f"{function} error {code}" + (f" first {first}" if first else ""))
        return self

    def delay(self, function: str, milliseconds: int, *, first: int = 0) -> Section:
        """Let a function (or `*`) take longer."""
        self.faults.append(
            f"{function} delay_ms {milliseconds}" + (f" first {first}" if first else "")
        )
        return self

    def hang(self, function: str) -> Section:
        """Let a function (or `*`) not return until this is healed."""
        self.faults.append(f"{function} hang")
        return self

    def crash(self, function: str) -> Section:
        """Let a function (or `*`) end the process by a segmentation fault."""
        self.faults.append(f"{function} crash")
        return self

    def heal(self, function: str | None = None) -> Section:
        """Take away the faults of one function, or all of them."""
        self.faults = [
            fault for fault in self.faults if function is not None and fault.split()[0] != function
        ]
        return self

    def process(self, pid: int, memory_bytes: int, *more: int | str) -> Section:
        """Add a process: then SM, memory, encoder, decoder %, `gi=`, `ci=`, graphics or mps."""
        self.processes.append(" ".join(map(str, (pid, memory_bytes, *more))))
        return self

    def event(self, sequence: int, kind: int, data: int) -> Section:
        """Let an event happen; waiting event sets get those with numbers they have not seen."""
        self.events.append(f"{sequence} {kind} {data}")
        return self

    def work(self, clock_mhz: int, percent: Mapping[int, float]) -> Section:
        """Let the pipes work: GPM metrics in %, and their cycle counters since reboot to match.

        The counters are those of one SM: elapsed cycles are the clock, active ones its share.
        """
        self.put("clock.sm", clock_mhz).put("clock.graphics", clock_mhz)
        self.put("gpm.248", "integral clock.sm 0 1e6")
        for metric, share in percent.items():
            self.put(f"gpm.{metric}", share)
            if metric in CYCLES:
                self.put(f"gpm.{CYCLES[metric]}", f"integral gpm.{metric} 0 {clock_mhz * 1e4}")
        return self

    def lines(self) -> Iterator[str]:
        """The section as the driver reads it."""
        yield self.title
        # The driver wants the values of one key in the order of time.
        for key, value in sorted(self.keys.items(), key=_by_time):
            yield f"{key} {value}"
        for word, lines in (
            ("fault", self.faults),
            ("process", self.processes),
            ("event", self.events),
        ):
            for line in lines:
                yield f"{word} {line}"


def _by_time(item: tuple[str, str]) -> tuple[int, int]:
    # epoch_ns stands first: it is the start of every key that follows.
    name, _, at = item[0].partition("@")
    return (0 if name == "epoch_ns" else 1, int(at or -1))


class FakeDriver:
    """A folder with the library, its scenario and its log of calls, for one test."""

    def __init__(self, folder: Path, *, version: str = "580.95.05") -> None:
        """Put the library there, with no GPU yet; nothing is read before `write()`."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(library(), folder / SONAME)
        (folder / "calls").touch()
        self.driver = Section("[driver]")
        self.driver.set(epoch_ns=time.monotonic_ns(), version=version)
        self.driver.set(nvml_version=f"13.{version}", cuda_version=13000)
        self.sections: dict[tuple[int, int], Section] = {}
        self._stamps = itertools.count(time.time_ns())

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which a program finds this driver: the loader reads it at start."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.folder)}

    def gpu(self, number: int, profile: str | None = None) -> Section:
        """A GPU's section, made from a profile's lines when it is new."""
        section = self.sections.get((number, -1))
        if section is None:
            section = self.sections[number, -1] = Section(f"[gpu {number}]")
            for key, value in profile_lines(profile) if profile else ():
                if key == "fault":
                    section.faults.append(value)
                else:
                    section.keys[key] = _placed(value, number)
        return section

    def instance(self, gpu: int, slot: int) -> Section:
        """A MIG instance's section."""
        return self.sections.setdefault((gpu, slot), Section(f"[gpu {gpu} mig {slot}]"))

    def carve(self, gpu: int, *instances: Instance) -> None:
        """Turn MIG on and make these the only instances; none: MIG is on and the GPU is bare."""
        whole = self.gpu(gpu)
        for old in [key for key in self.sections if key[0] == gpu and key[1] >= 0]:
            del self.sections[old]
        whole.put("mig.current", 1).put("mig.pending", 1)
        for key in NO_LOAD_ON_MIG:
            whole.put(key, "unsupported")
        for slot, made in enumerate(instances):
            section = self.instance(gpu, slot)
            section.put("name", f"{whole.keys['name']} MIG {made.profile}")
            section.put("uuid", made.uuid).put("gi", made.gpu_instance).put("ci", 0)
            section.put("profile", made.slices).put("gi_slices", made.slices)
            section.put("ci_slices", made.slices).put("sms", made.sms)
            section.put("memory.total", made.memory_bytes).put("memory.used", 0)
            section.put("gpm.1", made.busy_percent).put("gpm.2", made.busy_percent)

    def uncarve(self, gpu: int) -> None:
        """Turn MIG off; its instances are gone."""
        self.carve(gpu)
        self.gpu(gpu).set(mig__current=0, mig__pending=0)
        for key in NO_LOAD_ON_MIG:
            self.gpu(gpu).put(key, 0)

    def remove(self, gpu: int, slot: int = -1) -> None:
        """Take a GPU or an instance out of the scenario."""
        del self.sections[gpu, slot]

    def write(self) -> None:
        """Let the driver follow the scenario as it is now, all of it at once."""
        lines = [
            line for section in (self.driver, *self.sections.values()) for line in section.lines()
        ]
        fresh = self.folder / "scenario.new"
        fresh.write_text("\n".join(lines) + "\n")
        # The driver looks at the time of change, which the kernel keeps only to a few milliseconds.
        stamp = next(self._stamps)
        os.utime(fresh, ns=(stamp, stamp))
        fresh.replace(self.folder / "scenario")

    def at(self, monotonic_ns: int) -> None:
        """Stop the driver's clock there."""
        self.driver.set(now_ns=monotonic_ns)
        self.write()

    def calls(self) -> list[CallNote]:
        """Every call so far, in the order of the log; a call is noted when it begins."""
        notes = []
        for line in (self.folder / "calls").read_text().splitlines():
            at_ns, pid, thread, device, function = line.split()
            notes.append(CallNote(int(at_ns), int(pid), int(thread), device, function))
        return notes

    def forget_calls(self) -> None:
        """Empty the log."""
        os.truncate(self.folder / "calls", 0)


def profile_lines(profile: str) -> Iterator[tuple[str, str]]:
    """The keys and values of a board's profile, by the name of its file; later ones win."""
    for line in (PROFILES / f"{profile}.gpu").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "include":
            yield from profile_lines(value)
        elif line and key != "#":
            yield key, value.strip()


def _placed(value: str, number: int) -> str:
    """A profile's value for the GPU of that number; boards of two are even and odd."""
    places = {
        "gpu": f"{number:02x}",
        "number": number,
        "board": number // 2,
        "first": number // 2 * 2,
        "second": number // 2 * 2 + 1,
    }
    return value.format(**places) if "{" in value else value
