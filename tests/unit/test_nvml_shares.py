"""Work and shares of one GPU round by round, with the clock and the driver's answers in hand."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pynvml
import pytest

from joulefloor import catalogue
from joulefloor.account import FROZEN_AFTER_S
from joulefloor.clock import SystemClock
from joulefloor.nvml.binding import INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Binding
from joulefloor.nvml.rows import Identity
from joulefloor.nvml.shares import MOST_PROCESSES, Sharing
from joulefloor.nvml.taken import Capabilities, Taken
from joulefloor.nvml.work import Work
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joulefloor.catalogue import Metric

DEVICE = object()
SM_CLOCK_HZ = 1.83e9


class HandClock(SystemClock):
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        """At one second, so that nothing is at 0."""
        self.now_s = 1.0

    def monotonic_ns(self) -> int:
        return nanoseconds_from_seconds(self.now_s)


class Answers(ModuleType):
    """What NVIDIA's binding would answer: activity by GPM, and processes that share the GPU."""

    NVMLError = pynvml.NVMLError
    c_nvmlGpmMetricsGet_t = pynvml.c_nvmlGpmMetricsGet_t  # noqa: N815  # the binding's name

    def __init__(self) -> None:
        """Nothing is measured and nobody is there."""
        super().__init__("pynvml")
        self.metrics: Mapping[int, float] = {}
        self.sm_percent: Mapping[int, int] = {}
        self.stamp_us = 0
        self.newest = 1_000
        self.silent = False
        vars(self).update(
            nvmlGpmQueryDeviceSupport=lambda _: SimpleNamespace(isSupportedDevice=1),
            nvmlGpmSampleAlloc=pynvml.c_nvmlGpmSample_t,
            nvmlGpmSampleGet=lambda *_: None,
            nvmlGpmMetricsGet=self._between,
            nvmlDeviceGetMigMode=self._no_mig,
            nvmlDeviceGetComputeRunningProcesses=self._running,
            nvmlDeviceGetProcessUtilization=self._sampled,
        )

    def _between(self, asked: pynvml.c_nvmlGpmMetricsGet_t) -> None:
        if any(asked.metrics[n].metricId > self.newest for n in range(asked.numMetrics)):
            raise pynvml.NVMLError(INVALID_ARGUMENT)
        for index in range(asked.numMetrics):
            answer = asked.metrics[index]
            value = self.metrics.get(answer.metricId)
            answer.nvmlReturn = NOT_SUPPORTED if value is None else 0
            answer.value = value or 0.0

    def _no_mig(self, _: object) -> None:
        raise pynvml.NVMLError(NOT_SUPPORTED)

    def _running(self, _: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=1 << 30) for pid in self.sm_percent]

    def _sampled(self, *_: object) -> list[SimpleNamespace]:
        if self.silent:
            raise pynvml.NVMLError(NOT_FOUND)
        self.stamp_us += 1
        return [
            SimpleNamespace(pid=pid, smUtil=percent, timeStamp=self.stamp_us)
            for pid, percent in self.sm_percent.items()
        ]


class Bench:
    """One GPU's work and shares, read when the test says so."""

    def __init__(self, model: str = "NVIDIA H100 80GB HBM3") -> None:
        """No round yet."""
        self.answers, self.clock = Answers(), HandClock()
        binding = Binding(self.answers)
        self.able = Capabilities(self.clock)
        self.work = Work(binding, self.clock, DEVICE, Identity("GPU-1", model, "1"), full=True)
        self.sharing = Sharing(binding, self.clock, DEVICE, "GPU-1")

    def work_at(self, now_s: float, *, sm_clock: float | None = SM_CLOCK_HZ) -> Taken:
        """A round of the work."""
        self.clock.now_s = now_s
        taken = Taken()
        self.work.read(taken, self.able, joules=None, watts=None, sm_clock=sm_clock)
        return taken

    def share_at(self, now_s: float, joules: float, watts: float) -> dict[tuple[str, str], float]:
        """A round of the shares: joules by part and source."""
        self.clock.now_s = now_s
        taken = Taken()
        self.sharing.read(taken, self.able, joules, watts, busy=0.0, processes=True)
        return {(part, source): v for (_, _, part, source, _), v in series(taken).items()}


def series(taken: Taken, metric: Metric = catalogue.PART_ENERGY) -> dict[tuple[str, ...], float]:
    return {row.labels: v for row, v in taken.values.items() if row.metric == metric.name}


def test_cycle_counters_count_all_the_time_since_they_were_last_read() -> None:
    bench = Bench()
    clocks = {3.0: None}
    for now_s in (1.0, 2.0, 3.0, 4.0, 5.0, 40.0, 41.0):
        cycles = SM_CLOCK_HZ * now_s
        bench.answers.metrics = {248: cycles, 252: 0.25 * cycles}
        taken = bench.work_at(now_s, sm_clock=clocks.get(now_s, SM_CLOCK_HZ))
    told = series(taken, catalogue.OPERATIONS)
    fp16 = told["gpu", "GPU-1", "fp16", "nvml-cycles", "modelled"]
    # The counters were first read at 2 s; what 3 s and 40 s brought is in the next ones.
    assert fp16 == pytest.approx(0.25 * SM_CLOCK_HZ * (41 - 2) * 132 * 4096)


def test_case_10_an_old_driver_is_asked_for_cycles_again_each_minute_and_loses_no_round() -> None:
    bench = Bench()
    bench.answers.metrics = {5: 40.0, 248: 1e9, 252: 4e8}
    bench.answers.newest = 247
    rounds = [bench.work_at(float(second)) for second in range(1, 80)]
    told = [bool(series(taken, catalogue.UTILIZATION)) for taken in rounds]
    assert not any(series(taken, catalogue.PIPE_CYCLES) for taken in rounds)
    assert bench.able.missing()["pipe_cycles"] == "unsupported"
    assert all(told[5:]), "the first samples show that metrics are unknown"
    bench.answers.newest = 1_000
    rounds = [bench.work_at(float(second)) for second in range(80, 145)]
    assert all(series(taken, catalogue.UTILIZATION) for taken in rounds)
    assert series(rounds[-1], catalogue.PIPE_CYCLES)["gpu", "GPU-1", "hmma"] == 4e8


@pytest.mark.parametrize(
    ("model", "unknown"),
    [
        ("NVIDIA H100 NVL", {"fp16"}),
        ("NVIDIA H200 NVL", {"fp16"}),
        ("NVIDIA B200", {"fp16"}),
        ("NVIDIA GB200", {"fp16"}),
        ("NVIDIA H100 PCIe", {"fp16"}),
        ("NVIDIA H100 80GB HBM3", set()),
    ],
)
def test_each_pipe_whose_peak_nobody_published_is_told(model: str, unknown: set[str]) -> None:
    bench = Bench(model)
    bench.answers.metrics = dict.fromkeys((5, 6, 7, 8, 9, 11, 12, 13), 10.0)
    bench.work_at(1.0)
    assert bench.work.unknown(bench.able) == {}
    bench.work_at(2.0)
    flags = {f"operations_{pipe}": "unknown_peak" for pipe in unknown}
    assert bench.work.unknown(bench.able) == flags


def test_the_parts_leave_a_frozen_counter_as_the_board_does_and_return_to_it() -> None:
    bench = Bench()
    bench.answers.sm_percent = {11: 40}
    frozen_s = int(FROZEN_AFTER_S)
    for second in range(frozen_s + 1):
        told = bench.share_at(second, 5000.0, 300.0)
    assert told == {("process:11", "nvml"): 0.0, ("idle", "nvml"): 0.0}
    for second in range(frozen_s + 1, frozen_s + 12):
        told = bench.share_at(second, 5000.0, 300.0)
    assert set(told) == {("process:11", "nvml-power"), ("idle", "nvml-power")}
    assert told["process:11", "nvml-power"] == pytest.approx(0.4 * 10 * 300)
    assert sum(told.values()) == pytest.approx(10 * 300)
    bench.share_at(frozen_s + 12, 5300.0, 300.0)
    told = bench.share_at(frozen_s + 13, 5600.0, 300.0)
    assert sum(told.values()) == pytest.approx(11 * 300)
    assert ("idle", "nvml") in told


def test_a_round_between_two_samples_of_processes_is_divided_by_the_last() -> None:
    bench = Bench()
    bench.answers.sm_percent = {11: 40}
    for tenth in range(21):
        bench.answers.silent = tenth % 10 > 0
        told = bench.share_at(10 + tenth / 10, 1000.0 + 30.0 * tenth, 300.0)
    assert told["process:11", "nvml"] == pytest.approx(0.4 * 600)
    bench.answers.silent = True
    for second in range(13, 16):
        bench.share_at(second, 1600.0 + 300.0 * (second - 12), 300.0)
    late = bench.share_at(16, 2800.0, 300.0)
    assert late["process:11", "nvml"] == pytest.approx(0.4 * 1200), "silence is idleness"
    assert sum(late.values()) == pytest.approx(1800)


def test_what_the_processes_beyond_the_busiest_used_is_told_apart_from_idleness() -> None:
    bench = Bench()
    bench.answers.sm_percent = dict.fromkeys(range(1, MOST_PROCESSES + 7), 1)
    bench.share_at(1.0, 1000.0, 300.0)
    told = {part: joules for (part, _), joules in bench.share_at(2.0, 1300.0, 300.0).items()}
    assert len(told) == MOST_PROCESSES + 2
    assert told["process:others"] == pytest.approx(300 * 0.06)
    assert told["idle"] == pytest.approx(300 * (1 - 0.01 * (MOST_PROCESSES + 6)))
    assert sum(told.values()) == pytest.approx(300)
    bench.answers.sm_percent = {1: 1}
    told = {part: joules for (part, _), joules in bench.share_at(3.0, 1600.0, 300.0).items()}
    assert set(told) == {"process:1", "idle"}
