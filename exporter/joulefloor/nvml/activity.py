"""What the pipes of a GPU did between two samples: GPM, Hopper and later."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.nvml.binding import INVALID_ARGUMENT, NO_DATA, NOT_SUPPORTED, Refusal
from joulefloor.nvml.peaks import MOST_ACTIVITY
from joulefloor.nvml.taken import RETRY_NS
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joulefloor.clock import Clock
    from joulefloor.nvml.binding import Binding

SHORTEST_S = 0.1
"""Two samples closer than this give no metrics (nvml.h)."""
LONGEST_S = 10.0
"""An interval longer than this (the thread hung, the machine slept) starts anew."""
MOST_MISFITS = 4
"""Invalid arguments in a row after which they are a fault."""
METRICS_VERSION = 1
ENGINES = {
    1: "graphics",
    2: "sm",
    4: "int",
    5: "tensor",
    10: "dram",
    11: "fp64",
    12: "fp32",
    13: "fp16",
}
"""GPM metric of the label `engine`; per cent of the interval."""
PIPES = {7: "tensor16", 9: "tensor8", 6: "tensor64", 8: "tensor64", 11: "fp64"} | {
    12: "fp32",
    13: "fp16",
}
CYCLES_ELAPSED = 248
CYCLES = {252: "tensor16", 253: "tensor8", 251: "tensor64", 254: "tensor64", 258: "fp64"} | {
    259: "fp32",
    260: "fp16",
}
"""Counters of cycles since reboot, against the elapsed ones."""
PIPE_CYCLES = {248: "elapsed", 249: "sm", 250: "tensor", 251: "dmma", 252: "hmma"} | {
    253: "imma",
    254: "dfma",
    257: "int",
    258: "fp64",
    259: "fp32",
    260: "fp16",
}
"""All counters of cycles since reboot, of the label `pipe`: NVIDIA's names."""
LINKS = {
    20: ("pcie", "transmit"),
    21: ("pcie", "receive"),
    60: ("nvlink", "receive"),
    61: ("nvlink", "transmit"),
}
"""Mean rates over the interval, MiB/s."""
LINK_TOTALS = {255: ("pcie", "transmit"), 256: ("pcie", "receive")}
"""Bytes since reboot: nvml.h leaves out the unit, but DCGM 4.6 passes them on as bytes."""
BYTES_PER_MEBIBYTE = 1 << 20
STANDARD = (1, 5, *sorted(PIPES), 10, 60, 61, CYCLES_ELAPSED, *sorted(CYCLES))
FULL = (*sorted({*ENGINES, *PIPES, *LINKS}), *sorted({*PIPE_CYCLES, *LINK_TOTALS}))
BUSY = (1,)
"""Metrics that are asked for: of a GPU, of one in full detail, of a MIG instance."""


class Interval(NamedTuple):
    """What happened between two samples: metric values by id, length in s, and the end.

    `refused`: the driver's code for each metric that it did not give.
    """

    seconds: float
    values: dict[int, float]
    at_ns: int = 0
    refused: Mapping[int, int] = {}

    def engines(self) -> dict[str, float]:
        """Share of the interval each engine was busy, 0 to 1; impossible values are left out.

        The driver divides two counters: an engine without rest may come out a little above 1.
        """
        told = {name: self.values[n] / 100 for n, name in ENGINES.items() if n in self.values}
        return {name: min(1.0, v) for name, v in told.items() if 0 <= v <= MOST_ACTIVITY}

    def moved(self) -> dict[tuple[str, str], float]:
        """Bytes over each link and direction in the interval."""
        rates = {place: self.values.get(number) for number, place in LINKS.items()}
        per_second = {p: v * BYTES_PER_MEBIBYTE for p, v in rates.items() if v is not None}
        return {p: rate * self.seconds for p, rate in per_second.items() if rate >= 0}

    def counted(self) -> dict[tuple[str, str], float]:
        """Bytes over each link and direction since reboot, where the driver counts them."""
        totals = {place: self.values.get(number) for number, place in LINK_TOTALS.items()}
        return {place: total for place, total in totals.items() if total is not None}

    def pipes(self) -> dict[str, float]:
        """Share of the peak each pipe did by per cent metrics, as told (may be impossible)."""
        return _greatest({n: self.values[n] / 100 for n in PIPES if n in self.values}, PIPES)

    def told_pipes(self) -> set[str]:
        """The pipes of which the driver tells anything, in per cent or in cycles."""
        names = PIPES | CYCLES
        return {names[number] for number in self.values.keys() & names.keys()}


def _greatest(shares: dict[int, float], names: dict[int, str]) -> dict[str, float]:
    """One share per pipe: two metrics of the same pipe see the same work."""
    pipes: dict[str, float] = {}
    for number, share in shares.items():
        pipes[names[number]] = max(pipes.get(names[number], 0.0), share)
    return pipes


def cycle_shares(before: dict[int, float], now: dict[int, float]) -> dict[str, float] | None:
    """Share of the elapsed cycles in which each pipe worked, between two readings of counters.

    None when there are no counters or they were set back. A ratio, since NVIDIA does not say
    whether a counter adds up all SMs.
    """
    elapsed = now.get(CYCLES_ELAPSED, 0.0) - before.get(CYCLES_ELAPSED, 0.0)
    both = [number for number in CYCLES if number in before and number in now]
    steps = {number: now[number] - before[number] for number in both}
    if CYCLES_ELAPSED not in before or elapsed <= 0 or any(step < 0 for step in steps.values()):
        return None
    return _greatest({number: step / elapsed for number, step in steps.items()}, CYCLES)


class Sampler:
    """Two sample buffers of one device (or one MIG instance), used in turn."""

    def __init__(
        self,
        binding: Binding,
        clock: Clock,
        device: object,
        wanted: tuple[int, ...] = BUSY,
        *,
        gpu_instance: int | None = None,
    ) -> None:
        """`wanted`: metrics to ask for.

        `gpu_instance` restricts to one MIG instance; `device` is the whole GPU either way.
        """
        self._binding = binding
        self._clock = clock
        self._device = device
        self._gpu_instance = gpu_instance
        self._all = self._wanted = wanted
        self._retry_ns = 0
        self._buffers: list[object] = []
        self._sampled_ns: int | None = None
        self._misfits = 0

    def open(self) -> None:
        """Ask whether the device can, and allocate.

        Raises:
            Refusal: it cannot.
        """
        support = self._binding.call("nvmlGpmQueryDeviceSupport", self._device)
        if not getattr(support, "isSupportedDevice", 0):
            name = "nvmlGpmQueryDeviceSupport"
            raise self._binding.refusal(name, NOT_SUPPORTED)
        while len(self._buffers) < 2:  # noqa: PLR2004  # before and after
            self._buffers.append(self._binding.call("nvmlGpmSampleAlloc"))

    def take(self) -> Interval | None:
        """What happened since the last call; None on the first and after a pause.

        An invalid argument means samples of before the driver was started anew, or metrics that
        this driver is too old to know: then it goes on with new samples, and with fewer metrics.

        Raises:
            Refusal: the driver gives no sample or no metrics.
        """
        if not self._buffers:
            self.open()
        now_ns = self._clock.monotonic_ns()
        before_ns = self._sampled_ns
        seconds = 0.0 if before_ns is None else (now_ns - before_ns) / NANOSECONDS_PER_SECOND
        if before_ns is not None and seconds < SHORTEST_S:
            return None
        try:
            self._sample(self._buffers[1])
            usable = before_ns is not None and seconds <= LONGEST_S
            answers = self._metrics(self._wanted) if usable else None
        except Refusal as refusal:
            self._sampled_ns = None
            if refusal.code != INVALID_ARGUMENT or self._misfits >= MOST_MISFITS:
                raise
            self._begin_anew()
            return None
        self._sampled_ns = now_ns
        self._buffers.reverse()
        if answers is None:
            return None
        self._misfits = 0
        if self._wanted != self._all and now_ns >= self._retry_ns:
            self._try_all()
        values, refused = answers
        return Interval(seconds, values, now_ns, refused)

    def _begin_anew(self) -> None:
        self.close()
        self._misfits += 1
        if self._misfits > 1:
            self._wanted = tuple(number for number in self._all if number < CYCLES_ELAPSED)
            self._retry_ns = self._clock.monotonic_ns() + RETRY_NS

    def _try_all(self) -> None:
        """Ask once more for what the driver did not know: it may have been something else."""
        self._retry_ns = self._clock.monotonic_ns() + RETRY_NS
        try:
            self._metrics(self._all)
        except Refusal:
            return
        self._wanted = self._all

    def close(self) -> None:
        """Free the buffers; a driver that is gone has freed them already."""
        buffers, self._buffers = self._buffers, []
        for buffer in buffers:
            try:
                self._binding.call("nvmlGpmSampleFree", buffer)
            except Refusal:
                return

    def _sample(self, buffer: object) -> None:
        if self._gpu_instance is None:
            self._binding.call("nvmlGpmSampleGet", self._device, buffer)
        else:
            self._binding.call("nvmlGpmMigSampleGet", self._device, self._gpu_instance, buffer)

    def _metrics(self, wanted: tuple[int, ...]) -> tuple[dict[int, float], dict[int, int]]:
        """Values of the metrics that the driver vouches for, and its codes for the others."""
        struct = self._binding.struct("c_nvmlGpmMetricsGet_t")
        if struct is None:
            raise self._binding.refusal("nvmlGpmMetricsGet", NOT_SUPPORTED)
        asked = struct()
        _fill(asked, self._buffers, wanted)
        self._binding.call("nvmlGpmMetricsGet", asked)
        values, refused = _answers(asked, len(wanted))
        left_out = {number: NOT_SUPPORTED for number in self._all if number not in wanted}
        return values, refused | left_out


def _fill(asked: object, buffers: list[object], wanted: tuple[int, ...]) -> None:
    """Write the request into the driver's structure."""
    asked.version = METRICS_VERSION  # type: ignore[attr-defined]
    asked.numMetrics = len(wanted)  # type: ignore[attr-defined]
    asked.sample1, asked.sample2 = buffers  # type: ignore[attr-defined]
    for index, number in enumerate(wanted):
        asked.metrics[index].metricId = number  # type: ignore[attr-defined]


def _answers(asked: object, count: int) -> tuple[dict[int, float], dict[int, int]]:
    """Values by metric, and the codes of those that have none."""
    values: dict[int, float] = {}
    refused: dict[int, int] = {}
    for index in range(count):
        answer = asked.metrics[index]  # type: ignore[attr-defined]
        number, code, value = int(answer.metricId), int(answer.nvmlReturn), float(answer.value)
        if code:
            # A driver that has never heard of a metric calls its number an invalid argument.
            refused[number] = NOT_SUPPORTED if code == INVALID_ARGUMENT else code
        elif not isfinite(value) or value < 0:
            refused[number] = NO_DATA
        else:
            values[number] = value
    return values, refused
