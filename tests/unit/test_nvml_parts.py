"""The parts of GPU reading that need no driver: frames, means, activity, peaks, and odd workers."""

from __future__ import annotations

import re
import sys
from binascii import crc32
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.clock import SystemClock
from joulefloor.errors import Reason, SourceError
from joulefloor.frames import HEADER, MAGIC, MOST_BYTES, VERSION, Frame, Kind, Unpacker, pack
from joulefloor.host import Host
from joulefloor.nvml.activity import CYCLES_ELAPSED, Interval, cycle_shares
from joulefloor.nvml.peaks import Operations, Refused, peaks_of, rows_of
from joulefloor.nvml.power import LONGEST_S, QUICKEST_S, SHORTEST_S, Pace, PowerMean
from joulefloor.remote import Unit
from joulefloor.sources import Site, nvml
from joulefloor.units import Hertz, Seconds
from joulefloor.worker import Worker
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

    from joulefloor.clock import Clock

SECOND_NS = 1_000_000_000
PLAIN = st.recursive(
    st.none() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.tuples(inner, inner) | st.tuples(inner),
    max_leaves=12,
)
BODY = st.tuples(PLAIN, PLAIN) | st.tuples(PLAIN, PLAIN, PLAIN, PLAIN) | st.just(())


# -- frames ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(Kind), BODY), max_size=5), st.integers(1, 40))
def test_frames_survive_any_cutting_of_the_stream(
    frames: list[tuple[Kind, tuple[object, ...]]], size: int
) -> None:
    stream = b"".join(pack(kind, body) for kind, body in frames)
    unpacker = Unpacker()
    found: list[Frame] = []
    for start in range(0, len(stream), size):
        found += unpacker.feed(stream[start : start + size])
    assert found == [Frame(kind, body) for kind, body in frames]


@given(st.binary(max_size=80))
def test_other_bytes_are_refused_or_waited_on_and_never_believed(noise: bytes) -> None:
    try:
        frames = Unpacker().feed(noise)
    except ValueError:
        return
    assert not frames


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_never_passes_as_a_frame(place: int, value: int) -> None:
    frame = bytearray(pack(Kind.VALUES, (1, 2, 3, (1.0, 2.0), ((0, "LATE", "x"),), None)))
    place %= len(frame)
    if frame[place] == value:
        return
    original = Frame(Kind.VALUES, (1, 2, 3, (1.0, 2.0), ((0, "LATE", "x"),), None))
    frame[place] = value
    try:
        found = Unpacker().feed(bytes(frame))
    except ValueError:
        return
    # The kind is not under the checksum, and a longer length waits for more.
    assert [one.body for one in found] in ([], [original.body])


def test_a_frame_longer_than_the_bound_is_refused_by_both_ends() -> None:
    with pytest.raises(ValueError, match="longer than"):
        pack(Kind.DOWN, ("x" * MOST_BYTES,))
    with pytest.raises(ValueError, match="no frame"):
        Unpacker().feed(HEADER.pack(MAGIC, VERSION, Kind.DOWN, MOST_BYTES + 1, 0))


def test_a_body_that_is_no_tuple_is_refused() -> None:
    data = b"i\x01\x00\x00\x00"
    with pytest.raises(ValueError, match="no tuple"):
        Unpacker().feed(HEADER.pack(MAGIC, VERSION, Kind.BEAT, len(data), crc32(data)) + data)


# -- a unit, and workers that misbehave -----------------------------------------------------------


def row(sensor: str) -> tuple[object, ...]:
    return (catalogue.TEMPERATURE.name, ("gpu", "GPU-1", sensor), "LEVEL", 5000.0)


def test_a_unit_gives_each_answer_once_and_is_late_without_one() -> None:
    unit = Unit("GPU 0")
    unit.describe(1, "GPU-1", [row("die"), row("memory")])
    unit.take(1, 5, [40.0], [(1, "DENIED", "no")], None)
    first = unit.batch(9)
    assert [reading.value for reading in first.readings] == [40.0]
    assert [fault.reason for fault in first.faults] == [Reason.DENIED]
    unit.stuck = "nvmlDeviceGetTemperature"
    second = unit.batch(9)
    assert not second.readings
    assert {fault.reason for fault in second.faults} == {Reason.LATE}
    assert len(second.faults) == 2
    assert all("nvmlDeviceGetTemperature" in fault.detail for fault in second.faults)


def test_a_known_series_keeps_its_channel_when_others_come_and_go() -> None:
    unit = Unit("GPU 0")
    unit.describe(1, "GPU-1", [row("die")])
    die = unit.channels[0]
    unit.describe(2, "GPU-1", [row("memory")])
    unit.describe(3, "GPU-1", [row("memory"), row("die")])
    assert unit.channels[1] is die


@pytest.mark.parametrize(
    "rows",
    [
        [("joulefloor_no_such", ("a",), "LEVEL", 1.0)],
        [(catalogue.TEMPERATURE.name, ("gpu",), "LEVEL", 1.0)],
        [(catalogue.TEMPERATURE.name, ("gpu", "a", 3), "LEVEL", 1.0)],
        [(catalogue.TEMPERATURE.name, ("gpu", "a", "die"), "GUESS", 1.0)],
    ],
)
def test_rows_outside_the_catalogue_are_refused(rows: list[tuple[object, ...]]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Unit("GPU 0").describe(1, "GPU-1", rows)


def part(uuid: str) -> tuple[object, ...]:
    labels = ("gpu", "GPU-1", f"mig:1g.10gb:{uuid}", "nvml", "modelled")
    return (catalogue.PART_ENERGY.name, labels, "ENERGY", 5000.0)


METER = (catalogue.COMPONENT_ENERGY.name, ("gpu", "GPU-1", "nvml", "measured"), "ENERGY", 900.0)


def counted(unit: Unit, *values: float, generation: int = 1) -> list[float]:
    """What the unit makes of a round."""
    unit.take(generation, 7, values, [], None)
    return [reading.value for reading in unit.batch(9).readings]


def test_a_part_goes_on_from_its_earlier_lives_and_a_meter_is_left_as_it_is() -> None:
    unit = Unit("GPU 0")
    unit.describe(1, "GPU-1", [METER, part("a"), part("b")])
    assert counted(unit, 900.0, 0.0, 0.0) == [900, 0, 0]
    assert counted(unit, 910.0, 6.0, 4.0) == [910, 6, 4]
    assert unit.divided == (910, 7)
    unit.renew()
    unit.describe(1, "GPU-1", [METER, part("a"), part("b")])
    assert counted(unit, 5.0, 20.0, 1.0) == [5, 26, 5], "more than before, in another life"
    unit.describe(2, "GPU-1", [METER])
    assert counted(unit, 6.0, generation=2) == [6], "for once nobody knows who shares it"
    assert unit.divided == (5, 7)
    unit.describe(3, "GPU-1", [METER, part("a"), part("b")])
    assert counted(unit, 7.0, 21.0, 0.5, generation=3) == [7, 27, 5.5]


def test_a_round_that_is_not_divided_does_not_move_how_far_it_is() -> None:
    unit = Unit("GPU 0")
    unit.describe(1, "GPU-1", [METER, part("a")])
    counted(unit, 900.0, 5.0)
    unit.take(1, 8, [950.0], [(1, "LOST", "no")], None)
    assert unit.divided == (900, 7)


@given(st.lists(st.lists(st.floats(0, 1e6), max_size=5), max_size=6))
def test_a_part_has_spent_what_all_its_lives_spent_and_never_less(lives: list[list[float]]) -> None:
    unit, seen = Unit("GPU 0"), [0.0]
    for steps in lives:
        unit.describe(1, "GPU-1", [part("a")])
        total = 0.0
        for step in steps:
            total += step
            seen += counted(unit, total)
        unit.renew()
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(sum(map(sum, lives)))


class StillClock(SystemClock):
    """So that a pause is not over before it is told, however slow this machine is."""

    def monotonic_ns(self) -> int:
        return SECOND_NS


def source(
    tmp_path: Path, program: str, start_s: float = PATIENCE_S, clock: Clock | None = None
) -> nvml.NvmlSource:
    """The source with another program in the place of its worker."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    clock = clock or SystemClock()
    limits = nvml.Settings(start_deadline=Seconds(start_s), patience=Seconds(0.2))
    made = nvml.NvmlSource(Site(Host(tmp_path), clock, limits))
    made.worker = Worker((sys.executable, "-c", program), clock, {})
    return made


@pytest.mark.parametrize(
    ("program", "reason", "told"),
    [
        ("print('nvml: hello from the driver', flush=True); input()", Reason.GARBLED, "no frame"),
        ("import time; time.sleep(60)", Reason.LATE, "did not open"),
        ("raise SystemExit(3)", Reason.LOST, "exited with 3"),
        ("import os; os.kill(os.getpid(), 11)", Reason.LOST, "signal 11"),
        ("import os, time; os.close(1); time.sleep(60)", Reason.LOST, "closed its pipe"),
    ],
)
def test_a_worker_that_misbehaves_is_a_reason_and_is_ended(
    tmp_path: Path, program: str, reason: Reason, told: str
) -> None:
    # Where it is to be late; the others are waited for, however slowly they start.
    made = source(tmp_path, program, 0.3 if reason is Reason.LATE else PATIENCE_S)
    with pytest.raises(SourceError, match=told) as caught:
        made.read()
    assert caught.value.reason is reason
    assert not made.worker.running


def test_workers_that_end_young_again_and_again_are_started_ever_more_slowly(
    tmp_path: Path,
) -> None:
    made = source(tmp_path, "raise SystemExit(3)", clock=StillClock())
    for _ in range(2):
        with pytest.raises(SourceError, match="exited with 3"):
            made.read()
    with pytest.raises(
        SourceError, match=r"ended early 2 times \(.*exited with 3\); the next try is in 2 s"
    ):
        made.read()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Kind), BODY), min_size=1, max_size=4))
def test_frames_without_sense_are_garbled_or_ignored_and_never_an_accident(
    frames: list[tuple[Kind, tuple[object, ...]]],
) -> None:
    made = nvml.NvmlSource(Site(Host.__new__(Host), SystemClock(), nvml.Settings()))
    for kind, body in frames:
        with suppress(SourceError):
            made._take(Frame(kind, body))


# -- numbers --------------------------------------------------------------------------------------


def test_the_mean_of_power_is_the_trapezoid_of_its_samples() -> None:
    mean = PowerMean()
    assert mean.take() is None
    for second, watts in enumerate((100.0, 300.0, 300.0)):
        mean.add(watts, second * SECOND_NS)
    assert mean.take() == 250
    mean.add(100.0, 3 * SECOND_NS)
    assert mean.take() == 200


def test_nothing_is_said_about_a_pause_between_samples() -> None:
    mean = PowerMean()
    mean.add(700.0, 0)
    mean.add(100.0, round((LONGEST_S + 1) * SECOND_NS))
    assert mean.take() == 100


@given(st.lists(st.tuples(st.floats(1, 1000), st.integers(1, 10**9)), min_size=2, max_size=20))
def test_the_mean_lies_between_the_samples(samples: list[tuple[float, int]]) -> None:
    mean, at_ns = PowerMean(), 0
    for watts, step_ns in samples:
        at_ns += step_ns
        mean.add(watts, at_ns)
    told = mean.take()
    values = [watts for watts, _ in samples]
    assert told is not None
    assert min(values) * (1 - 1e-9) <= told <= max(values) * (1 + 1e-9)


def watched(pace: Pace, update_s: float, seconds: float, *, mean: bool = False) -> list[float]:
    """Let a sensor that changes every `update_s` be sampled; the times between the samples."""
    now_ns, waits = SECOND_NS, []
    while now_ns < (1 + seconds) * SECOND_NS:
        pace.note(100.0 + now_ns // round(update_s * SECOND_NS) % 7, now_ns, mean=mean)
        waits.append(pace.next_s(now_ns))
        now_ns += round(waits[-1] * SECOND_NS)
    return waits


@given(st.floats(0.02, 0.15))
def test_the_update_period_of_a_sensor_is_measured_and_sampled_twice(update_s: float) -> None:
    pace = Pace(0.1, curious=False)
    waits = watched(pace, update_s, 5.0)
    assert pace.update_s is not None
    assert pace.update_s == pytest.approx(update_s, abs=SHORTEST_S * 1.01)
    assert waits[-1] == pytest.approx(min(0.1, max(QUICKEST_S, pace.update_s / 2)))
    assert waits[0] == SHORTEST_S


@pytest.mark.parametrize(("configured_s", "sampled_s"), [(0.02, 0.5), (0.1, 0.5), (0.8, 0.8)])
def test_a_sensor_that_tells_the_mean_of_a_second_is_sampled_twice_in_it(
    configured_s: float, sampled_s: float
) -> None:
    pace = Pace(configured_s, curious=False)
    assert set(watched(pace, 0.1, 5.0, mean=True)) == {sampled_s}
    assert pace.update_s is None


def test_how_often_the_mean_of_a_second_changes_is_measured_if_somebody_wants_to_know() -> None:
    pace = Pace(0.1, curious=True)
    waits = watched(pace, 0.1, 5.0, mean=True)
    assert pace.update_s == pytest.approx(0.1, abs=0.02)
    assert waits[-1] == 0.5


def test_an_unchanging_sensor_is_tried_now_and_then_and_sampled_as_configured() -> None:
    pace = Pace(0.1, curious=False)
    waits = watched(pace, 1e6, 130.0)
    assert pace.update_s is None
    assert set(waits) == {SHORTEST_S, 0.1}
    assert waits.count(SHORTEST_S) <= 3 * 2 / SHORTEST_S
    watched(pace, 0.05, 70.0)
    assert pace.update_s == pytest.approx(0.05, abs=0.02)


def test_who_samples_rarely_gets_no_trials() -> None:
    assert set(watched(Pace(60.0, curious=False), 0.05, 200.0)) == {60.0}


@pytest.mark.parametrize(
    ("model", "tensor_tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA RTX 6000 Ada Generation", 364.25),
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-32GB", 125),
        ("Tesla V100-PCIE-16GB", 112),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
    ],
)
def test_a_pipe_that_is_always_busy_at_the_clock_of_the_peak_does_the_peak(
    model: str, tensor_tera: float
) -> None:
    (peak,) = [peak for peak in peaks_of(model) if peak.pipe == "tensor16"]
    (clock_mhz,) = {row[5] for row in rows_of() if row[1] == "tensor16" and is_of(row, model)}
    operations = Operations(peaks_of(model))
    operations.add({"tensor16": 1.0}, Hertz(float(clock_mhz) * 1e6), 2.0)
    assert operations.totals["fp16"] == pytest.approx(2 * tensor_tera * 1e12, rel=0.02)
    assert peak.precision == "fp16"


def is_of(row: tuple[str, ...], model: str) -> bool:
    return bool(re.fullmatch(row[0], model.removeprefix("NVIDIA ").removeprefix("Tesla ")))


@pytest.mark.parametrize("row", rows_of(), ids=lambda row: f"{row[0][:12]}-{row[1]}")
def test_every_published_peak_is_units_times_operations_per_cycle_times_clock(
    row: tuple[str, ...],
) -> None:
    _, _, _, units, per_cycle, clock_mhz, published, source = row
    product = int(units) * int(per_cycle) * float(clock_mhz) * 1e6
    assert product == pytest.approx(float(published), rel=0.02)
    assert re.search(r" 20[12]\d ", f" {source} "), "a source has a year"


def test_no_pipe_of_a_gpu_is_listed_twice() -> None:
    rows = [(pattern, row[1]) for row in rows_of() for pattern in row[0].split("|")]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("model", ["NVIDIA X999", "Tesla P4", "NVIDIA H100", "", "H100 80GB HBM3e"])
def test_a_gpu_nobody_published_has_no_peak(model: str) -> None:
    assert peaks_of(model) == ()


@given(st.floats(-2, 3), st.floats(0, 2e9), st.floats(0, 10))
def test_operations_never_go_down_and_never_pass_the_peak(
    share: float, clock_hz: float, seconds: float
) -> None:
    operations = Operations(peaks_of("NVIDIA H100 80GB HBM3"))
    try:
        operations.add({"tensor16": share}, Hertz(clock_hz), seconds)
    except Refused:
        assert not 0 <= share <= 1.02
    most = 132 * 4096 * clock_hz * seconds
    # The smallest numbers that there are have fewer digits.
    assert 0 <= operations.totals["fp16"] <= most * (1 + 1e-9) + 1e-300


@given(
    st.dictionaries(st.sampled_from([248, 251, 252, 253, 254, 258, 259, 260]), st.floats(0, 1e18)),
    st.dictionaries(st.sampled_from([248, 251, 252, 253, 254, 258, 259, 260]), st.floats(0, 1e18)),
)
def test_cycle_shares_are_none_when_a_counter_was_set_back(
    before: dict[int, float], now: dict[int, float]
) -> None:
    shares = cycle_shares(before, now)
    back = any(now[number] < before[number] for number in before.keys() & now.keys())
    if back or CYCLES_ELAPSED not in before or CYCLES_ELAPSED not in now:
        assert shares is None
    elif shares is not None:
        assert all(share >= 0 for share in shares.values())


def test_an_engine_without_rest_is_busy_all_the_time() -> None:
    interval = Interval(1.0, {1: 100.00000000000001, 2: 101.9, 5: 100.0, 10: 102.1})
    assert interval.engines() == {"graphics": 1.0, "sm": 1.0, "tensor": 1.0}


def test_engines_leave_out_what_cannot_be() -> None:
    interval = Interval(1.0, {1: 50.0, 2: 130.0, 10: -1.0, 20: 2.0, 21: -5.0})
    assert interval.engines() == {"graphics": 0.5}
    assert interval.moved() == {("pcie", "transmit"): 2.0 * 2**20}
