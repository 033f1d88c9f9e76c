"""The energy of one GPU divided among those who share it: MIG instances, or processes.

The driver meters the board only. Its joules of a round are divided by use times size, and what
nobody used is the part `idle`, so that the parts always add up to the board. method="modelled".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.account import FROZEN_AFTER_S
from joulefloor.attribution import divide
from joulefloor.model import Measures
from joulefloor.nvml.activity import Sampler
from joulefloor.nvml.binding import (
    INVALID_ARGUMENT,
    MISSING,
    NO_PERMISSION,
    NOT_FOUND,
    Refusal,
)
from joulefloor.nvml.table import COMPONENT, COUNTER, INTEGRAL, PER_CENT, Row
from joulefloor.tally import SIZE
from joulefloor.units import NANOSECONDS_PER_SECOND, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.clock import Clock
    from joulefloor.nvml.binding import Binding
    from joulefloor.nvml.taken import Capabilities, Taken
    from joulefloor.remote import Divided

IDLE = "idle"
SLICES = 7
"""Compute slices of a board whose driver tells no profiles: those of most boards with MIG."""
PROFILES = 18
"""Numbers of GPU instance profiles (nvml.h, 13.5); a board has some of them."""
SAMPLES_LAST_S = 2.0
"""Drivers sample processes each second or more often: after so long without any, none works."""
MOST_PROCESSES = 64
OTHERS = "process:others"
"""The part of all processes beyond the busiest."""
MOST_KNOWN = 1_000
"""Parts that are gone and remembered, at most."""
LONGEST_S = 15.0
"""Power is not multiplied by a longer time than this."""


class Instance(NamedTuple):
    """A MIG instance, that is a compute instance: part label, UUID, size as a share of the board.

    `gpu_instance`: id of the GPU instance it is in, which it may share with others.
    """

    part: str
    uuid: str
    size: float
    gpu_instance: int
    device: object


GpuInstance = tuple[int, tuple[str, ...]]
"""Id of a GPU instance, which is used again, and UUIDs of the compute instances in it."""


class _Process(NamedTuple):
    """A process on the GPU and the memory it holds there, B; None if the driver does not tell."""

    pid: int
    memory_bytes: int | None


class Sharing:
    """Divides what one GPU spent since the last round."""

    def __init__(self, binding: Binding, clock: Clock, device: object, uuid: str) -> None:
        """Nothing is divided before two rounds have been read."""
        self._binding = binding
        self._clock = clock
        self._device = device
        self._uuid = uuid
        self._before: tuple[str, float, int] | None = None
        self._is_early = False
        self._totals: dict[str, float] = {}
        self._moved: tuple[float, int] | None = None
        self._slices: int | None = None
        self._sizes: dict[str, float] = {}
        self._samplers: dict[GpuInstance, Sampler] = {}
        self._recent: dict[GpuInstance, float] = {}
        self._seen_us = 0
        self._samples: tuple[dict[str, float], int] = {}, 0

    def go_on(self, divided: Divided) -> None:
        """Divide what was spent since an earlier process did, unless that is long ago."""
        if self._is_recent(divided.at_ns):
            self._before = (COUNTER, divided.joules, divided.at_ns)

    def read(
        self,
        taken: Taken,
        able: Capabilities,
        joules: float | None,
        watts: float | None,
        *,
        busy: float | None,
        processes: bool,
    ) -> None:
        """Add the parts to `taken`, if the GPU is shared; `busy`: use of the whole GPU, 0 to 1.

        When it cannot be told who shares it, or not yet how active they are, the joules of a round
        are divided with those of the next.

        Raises:
            Refusal: the GPU or the driver is gone.
        """
        use: dict[str, float] | None = None

        def instances() -> Sequence[float]:
            nonlocal use
            use = self._instances()
            return ()

        def tenants() -> Sequence[float]:
            nonlocal use
            use = self._processes(busy or 0.0)
            return ()

        settled = able.read("mig", (), instances, taken) or able.lacks("mig")
        if settled and use is None and processes:
            settled = able.read("processes", (), tenants, taken)
        if not settled:
            return
        taken.values |= self._size_rows()
        if self._is_early and self._before is not None and self._is_recent(self._before[2]):
            return
        source, spent = self._spent(joules, watts)
        if use is None:
            return
        self._divide(spent or 0.0, use)
        for part in (*use, IDLE):
            labels = (COMPONENT, self._uuid, part, source, "modelled")
            taken.values[Row(catalogue.PART_ENERGY.name, labels, Measures.ENERGY.name)] = (
                self._totals[part]
            )

    def _is_recent(self, at_ns: int) -> bool:
        age_ns = self._clock.monotonic_ns() - at_ns
        return age_ns <= nanoseconds_from_seconds(LONGEST_S)

    def _divide(self, joules: float, use: dict[str, float]) -> None:
        """Add a round to what each part has spent; one that comes again goes on from there."""
        division = divide(joules, use, 1.0)
        totals = self._totals
        for part, more in (division.shares | {IDLE: division.remainder}).items():
            totals[part] = totals.get(part, 0.0) + more
        if len(totals) > MOST_KNOWN:
            self._totals = {part: totals[part] for part in (*use, IDLE)}

    def close(self) -> None:
        """Free the sample buffers of the instances."""
        for sampler in self._samplers.values():
            sampler.close()
        self._samplers.clear()

    def _spent(self, joules: float | None, watts: float | None) -> tuple[str, float | None]:
        """Joules since the last round, by the counter, else by mean power.

        A counter that is frozen is left as the ledger leaves it, so that parts follow the board.
        """
        now_ns = self._clock.monotonic_ns()
        if joules is not None and self._is_frozen(joules, now_ns):
            joules = None
        source = COUNTER if joules is not None else INTEGRAL
        before = self._before
        self._before = (source, joules or 0.0, now_ns)
        if before is None or before[0] != source:
            return source, None
        if joules is not None:
            return source, joules - before[1] if joules >= before[1] else None
        seconds = (now_ns - before[2]) / NANOSECONDS_PER_SECOND
        return source, None if watts is None or seconds > LONGEST_S else watts * seconds

    def _is_frozen(self, joules: float, now_ns: int) -> bool:
        """Whether the counter has stood at this value for too long."""
        if self._moved is None or self._moved[0] != joules:
            self._moved = joules, now_ns
        return (now_ns - self._moved[1]) / NANOSECONDS_PER_SECOND > FROZEN_AFTER_S

    # -- MIG -------------------------------------------------------------------------------------

    def _instances(self) -> dict[str, float] | None:
        """Use of each MIG instance, as a share of the board; None when MIG is off."""
        current, _ = self._binding.pair("nvmlDeviceGetMigMode", self._device)
        self._sizes = {}
        if not current:
            return None
        slices = self._board_slices()
        found = [self._instance(device, slices or SLICES) for device in self._handles()]
        self._sizes = {one.uuid: one.size for one in found} if slices else {}
        members: dict[int, list[Instance]] = {}
        for instance in found:
            members.setdefault(instance.gpu_instance, []).append(instance)
        shared = {(gi, tuple(one.uuid for one in ones)): ones for gi, ones in members.items()}
        self._is_early = False
        for key in self._samplers.keys() - shared.keys():
            self._samplers.pop(key).close()
            self._recent.pop(key, None)
        use: dict[str, float] = {}
        for key, ones in shared.items():
            activity = self._activity(key)
            for one in ones:
                share = self._occupied(one) if activity is None else activity
                use[one.part] = one.size * share
        return use

    def _board_slices(self) -> int:
        """Compute slices of the board: those of the largest profile that its driver supports.

        0 if it tells none.

        Raises:
            Refusal: for another reason than that there is no such profile.
        """
        if self._slices is None:
            sizes = []
            for profile in range(PROFILES):
                try:
                    call = "nvmlDeviceGetGpuInstanceProfileInfo"
                    answer = self._binding.call(call, self._device, profile)
                except Refusal as refusal:
                    if refusal.code not in MISSING | {INVALID_ARGUMENT, NO_PERMISSION}:
                        raise
                else:
                    sizes.append(int(answer.sliceCount))  # type: ignore[attr-defined]
            self._slices = max(sizes, default=0)
        return self._slices

    def _size_rows(self) -> dict[Row, float]:
        """How much of the board each instance is: never published, for bills of who holds it."""
        name, holds = catalogue.WORKLOAD_DEVICE_SHARE.name, Measures.HOLD.name
        return {
            Row(name, (COMPONENT, uuid, IDLE, self._uuid, "", SIZE), holds): size
            for uuid, size in self._sizes.items()
        }

    def _handles(self) -> list[object]:
        count = int(self._binding.number("nvmlDeviceGetMaxMigDeviceCount", self._device))
        handles = []
        for index in range(count):
            call = "nvmlDeviceGetMigDeviceHandleByIndex"
            try:
                handles.append(self._binding.call(call, self._device, index))
            except Refusal as refusal:
                if refusal.code != NOT_FOUND:
                    raise
        return handles

    def _instance(self, device: object, board_slices: int) -> Instance:
        binding = self._binding
        uuid = binding.text("nvmlDeviceGetUUID", device)
        gpu_instance = int(binding.number("nvmlDeviceGetGpuInstanceId", device))
        attributes = binding.call("nvmlDeviceGetAttributes", device)
        whole = int(attributes.gpuInstanceSliceCount)  # type: ignore[attr-defined]
        slices = int(attributes.computeInstanceSliceCount)  # type: ignore[attr-defined]
        memory_mib = int(attributes.memorySizeMB)  # type: ignore[attr-defined]
        profile = f"{whole}g.{round(memory_mib / 1024)}gb"
        if slices < whole:
            profile = f"{slices}c.{profile}"
        part = f"mig:{profile}:{uuid}"
        return Instance(part, uuid, slices / board_slices, gpu_instance, device)

    def _activity(self, key: GpuInstance) -> float | None:
        """Share of the time in which a GPU instance worked; None while unknown."""
        sampler = self._samplers.get(key)
        if sampler is None:
            sampler = self._samplers[key] = Sampler(
                self._binding, self._clock, self._device, gpu_instance=key[0]
            )
        try:
            interval = sampler.take()
        except Refusal:
            self._recent.pop(key, None)
            return None
        share = None if interval is None else interval.engines().get("graphics")
        if share is not None:
            self._recent[key] = share
        self._is_early |= key not in self._recent
        return self._recent.get(key)

    def _occupied(self, instance: Instance) -> float:
        """Use of an instance of unknown activity: whether it has work."""
        call = "nvmlDeviceGetComputeRunningProcesses"
        return 1.0 if self._binding.call(call, instance.device) else 0.0

    # -- processes -------------------------------------------------------------------------------

    def _processes(self, busy: float) -> dict[str, float] | None:
        """Mean share of the SMs per process since the last round, by the driver's samples.

        Where the driver takes no samples of processes, use of the GPU goes by the memory they hold.
        """
        call = "nvmlDeviceGetComputeRunningProcesses"
        running = self._list(call)
        told = self._sampled()
        use = {f"process:{process.pid}": 0.0 for process in running}
        if told is None:
            use = divide(busy, by_memory([*running, *self._served()]), 0.0).shares
        else:
            use |= self._latest(told)
        ranked = sorted(use.items(), key=lambda item: -item[1])
        told_apart, others = ranked[:MOST_PROCESSES], ranked[MOST_PROCESSES:]
        rest = {OTHERS: sum(amount for _, amount in others)} if others else {}
        return dict(told_apart) | rest

    def _latest(self, told: dict[int, list[float]]) -> dict[str, float]:
        """Mean use by process; that of the last samples while there are no new ones yet."""
        now_ns = self._clock.monotonic_ns()
        if told:
            use = {f"process:{pid}": sum(seen) / len(seen) for pid, seen in told.items()}
            self._samples = use, now_ns
        use, at_ns = self._samples
        return use if now_ns - at_ns <= nanoseconds_from_seconds(SAMPLES_LAST_S) else {}

    def _served(self) -> list[_Process]:
        """Clients of an MPS server, which the list of processes may leave out."""
        try:
            return self._list("nvmlDeviceGetMPSComputeRunningProcesses")
        except Refusal as refusal:
            if refusal.code not in MISSING:
                raise
            return []

    def _list(self, call: str) -> list[_Process]:
        answer = self._binding.call(call, self._device)
        return [_Process(one.pid, one.usedGpuMemory) for one in answer]  # type: ignore[attr-defined]

    def _sampled(self) -> dict[int, list[float]] | None:
        """Shares of the SMs by process id, of every sample since the last call; None without any.

        Raises:
            Refusal: for another reason than that the driver has no such samples.
        """
        call = "nvmlDeviceGetProcessUtilization"
        try:
            samples = self._binding.call(call, self._device, self._seen_us)
        except Refusal as refusal:
            if refusal.code in MISSING or refusal.code == NO_PERMISSION:
                return None
            if refusal.code != NOT_FOUND:
                raise
            samples = ()
        told: dict[int, list[float]] = {}
        for sample in samples:  # type: ignore[attr-defined]
            if sample.timeStamp > self._seen_us and sample.smUtil <= 100:  # noqa: PLR2004
                told.setdefault(int(sample.pid), []).append(sample.smUtil * PER_CENT)
        stamps = [int(sample.timeStamp) for sample in samples]  # type: ignore[attr-defined]
        self._seen_us = max([self._seen_us, *stamps])
        return told


def by_memory(running: Sequence[_Process]) -> dict[str, float]:
    """GPU memory of each process, B; 1 for each while the driver does not tell it of all."""
    held = {f"process:{one.pid}": one.memory_bytes for one in running}
    known = {part: float(amount) for part, amount in held.items() if amount}
    return known if len(known) == len(held) else dict.fromkeys(held, 1.0)
