"""NVIDIA GPUs on the fake driver: what is read, and the failures of this field, one by one.

The source, its worker process and NVIDIA's binding are the real ones; only the driver is scripted.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.catalogue import (
    ALTERNATE_ENERGY,
    COMPONENT_ENERGY,
    COMPONENT_POWER,
    DEVICE_CAPABILITY,
    DEVICE_ERRORS,
    DRIVER_INFO,
    METER_EVENTS,
    NODE_ENERGY,
    OPERATIONS,
    PART_ENERGY,
    UTILIZATION,
)
from joulefloor.clock import SystemClock
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Measures
from joulefloor.sources import nvml
from tests.nvml import curves
from tests.nvml.build import compiler
from tests.nvml.curves import Constant, Curve, Ramp, Sine, Square, Steps
from tests.patience import PATIENCE_S
from tests.unit.gpus import Rig, reasons_of, series_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from joulefloor.model import Batch

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")

Make = "Callable[..., Rig]"
PROFILES = ("t4", "a100-sxm4-80gb", "h100-sxm5", "h200", "b200", "gb200", "l40s")
POWER_FIELD = "nvmlDeviceGetFieldValues"
ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
HERTZ = (0.05, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make rigs; their workers end with the test."""
    rigs: list[Rig] = []

    def make(*profiles: str, stopped: bool = True) -> Rig:
        rigs.append(Rig(tmp_path / f"rig-{len(rigs)}", *profiles, stopped=stopped))
        return rigs[-1]

    yield make
    for one in rigs:
        one.source.close()


def energy(rig: Rig, number: int, source: str = "nvml") -> float:
    return rig.series(COMPONENT_ENERGY)[("gpu", rig.uuid(number), source, "measured")]


def events(rig: Rig, number: int, source: str = "nvml") -> dict[str, float]:
    return {
        labels[3]: count
        for labels, count in rig.series(METER_EVENTS).items()
        if labels[0] == source and labels[2] == rig.uuid(number)
    }


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_every_board_gives_energy_power_temperature_and_names(
    rig: Callable[..., Rig], profile: str
) -> None:
    gpus = rig(profile, profile)
    gpus.build(detail="full")
    batch = gpus.until(lambda batch: not batch.faults)
    uuid = gpus.uuid(0)
    channels = {(r.channel.labels, r.channel.measures) for r in batch.readings}
    assert (("gpu", uuid, "nvml", "measured"), Measures.ENERGY) in channels
    assert (("gpu", uuid, "nvml-power", "measured"), Measures.POWER) in channels
    assert series_of(batch, catalogue.TEMPERATURE)[("gpu", uuid, "die")] > 0
    limits = series_of(batch, catalogue.COMPONENT_POWER_LIMIT)
    assert {labels[2] for labels in limits} == {"enforced", "default", "min", "max"}
    assert ("gpu", uuid, "nvidia", gpus.gpus[0].keys["name"]) in series_of(
        batch, catalogue.DEVICE_INFO
    )
    assert series_of(batch, UTILIZATION)[("gpu", uuid, "busy")] == 0


@pytest.mark.parametrize("detail", nvml.DETAILS)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_contract_of_sources_holds_on_every_board(
    rig: Callable[..., Rig], profile: str, detail: str
) -> None:
    gpus = rig(profile, profile)
    gpus.build(detail=detail)
    gpus.until(lambda batch: not batch.faults)
    first, second = gpus.source.read(), gpus.source.read()
    declared = {id(channel) for channel in gpus.source.channels()}
    for batch in (first, second):
        keys = [reading.channel.key for reading in batch.readings]
        assert len(keys) == len(set(keys)), "one series twice"
        assert {id(reading.channel) for reading in batch.readings} <= declared
        for reading in batch.readings:
            channel = reading.channel
            assert len(channel.labels) == len(channel.metric.labels)
            assert all(channel.labels)
            assert (channel.measures in {Measures.ENERGY, Measures.POWER}) == (
                channel.metric in catalogue.POWER_OF
            )
    assert {id(r.channel) for r in first.readings} <= {id(r.channel) for r in second.readings}


def test_readings_carry_base_units(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(load=350_000, clock__sm=1830, utilization__gpu=87, fans=1)
    gpus.gpus[0].put("fan.0", 40).put("violation.hw_thermal", 2_500_000_000)
    gpus.gpus[0].put("nvlink.data_tx_kib", 4)
    gpus.pass_time(10)
    batch = gpus.until(lambda batch: not batch.faults)
    uuid = gpus.uuid(0)
    assert series_of(batch, COMPONENT_ENERGY)[("gpu", uuid, "nvml", "measured")] == 3500
    assert series_of(batch, COMPONENT_ENERGY)[("gpu", uuid, "nvml-power", "measured")] == 350
    assert series_of(batch, catalogue.CLOCK)[("gpu", uuid, "sm")] == 1.83e9
    assert series_of(batch, UTILIZATION)[("gpu", uuid, "busy")] == pytest.approx(0.87)
    assert series_of(batch, catalogue.FAN_SPEED_RATIO)[(uuid, "fan1")] == pytest.approx(0.4)
    throttled = series_of(batch, catalogue.THROTTLE)
    assert throttled[("gpu", uuid, "hw_thermal_slowdown")] == 2.5
    assert series_of(batch, catalogue.LINK)[("gpu", uuid, "nvlink", "transmit")] == 4096
    assert series_of(batch, catalogue.COMPONENT_POWER_LIMIT)[("gpu", uuid, "enforced")] == 700


@pytest.mark.parametrize(
    ("profile", "reasons"), [("a100-sxm4-80gb", {"thermal"}), ("h100-sxm5", set())]
)
def test_thermal_throttling_in_one_is_told_where_the_driver_knows_no_finer_reasons(
    rig: Callable[..., Rig], profile: str, reasons: set[str]
) -> None:
    gpus = rig(profile)
    gpus.gpus[0].put("violation.thermal", 2_500_000_000)
    gpus.driver.write()
    gpus.until(quiet)
    throttled = series_of(gpus.source.read(), catalogue.THROTTLE)
    told = {labels[2]: seconds for labels, seconds in throttled.items() if seconds == 2.5}
    assert set(told) == reasons


def links(gpus: Rig, batch: Batch) -> float | None:
    """Bytes sent over NVLink by the first GPU."""
    return series_of(batch, catalogue.LINK).get(("gpu", gpus.uuid(0), "nvlink", "transmit"))


def has_activity(batch: Batch) -> bool:
    return "tensor" in engines(batch)


def test_bytes_of_a_link_are_never_integrated_in_place_of_the_drivers_counter(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    kib = 10**12
    gpus.gpus[0].put("nvlink.data_tx_kib", kib).put("gpm.61", 1000)
    gpus.driver.write()
    assert links(gpus, gpus.until(has_activity)) == kib * 1024
    gpus.gpus[0].put("nvlink.data_tx_kib", "error 999")
    gpus.driver.write()
    told = gpus.until(lambda b: has_activity(b) and bool(b.faults))
    assert links(gpus, told) is None
    gpus.gpus[0].put("nvlink.data_tx_kib", kib + 10)
    gpus.driver.write()
    gpus.until(lambda b: links(gpus, b) == (kib + 10) * 1024)


def test_a_counter_of_a_link_that_comes_late_does_not_move_the_integrated_bytes(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].put("nvlink.data_tx_kib", "error 999").put("gpm.61", 1000)
    gpus.driver.write()
    before = links(gpus, gpus.until(lambda b: links(gpus, b) is not None))
    gpus.gpus[0].put("nvlink.data_tx_kib", 10**12)
    gpus.driver.write()
    for _ in range(2):
        after = links(gpus, gpus.until(has_activity))
        assert before is not None
        assert after is not None
        assert before <= after < before + 60 * 1000 * 2**20
        before = after


def test_without_full_detail_only_what_is_asked_for_every_day_is_told(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].work(1500, {7: 40.0}).drop("violation.power")
    gpus.driver.write()
    uuid = gpus.uuid(0)
    use = ("gpu", uuid, "tensor")
    batch = gpus.until(lambda b: not b.faults and bool(series_of(b, OPERATIONS)))
    assert engines(batch) == {"busy", "tensor", "dram"}
    told = {labels[2] for labels in series_of(batch, DEVICE_ERRORS)}
    assert told == {"xid"}, "errors that never occurred are not told"
    assert not series_of(batch, catalogue.THROTTLE)
    assert {labels[2] for labels in series_of(batch, OPERATIONS)} == {"fp16"}
    assert {labels[2] for labels in series_of(batch, catalogue.COMPONENT_POWER_LIMIT)} == {
        "enforced"
    }
    assert set(series_of(batch, catalogue.CLOCK)) == {("gpu", uuid, "sm")}
    assert not series_of(batch, PART_ENERGY)
    gpus.source.close()
    gpus.build(detail="full")
    batch = gpus.until(lambda b: not b.faults and use in series_of(b, UTILIZATION))
    assert {"sm", "int", "fp32", "kernel", "memory"} <= engines(batch)
    assert ("gpu", uuid, "ecc_corrected") in series_of(batch, DEVICE_ERRORS)
    assert ("gpu", uuid, "hw_thermal_slowdown") in series_of(batch, catalogue.THROTTLE)
    assert ("gpu", uuid, "memory") in series_of(batch, catalogue.CLOCK)


def engines(batch: Batch) -> set[str]:
    return {labels[2] for labels in series_of(batch, UTILIZATION)}


def test_a_count_that_began_stays_when_it_is_zero_again(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    uuid = gpus.uuid(0)
    held, cap = (("gpu", uuid, reason) for reason in ("hw_thermal_slowdown", "sw_power_cap"))
    gpus.gpus[0].put("violation.power", 0)
    gpus.driver.write()
    batch = gpus.until(quiet)
    assert set(series_of(batch, catalogue.THROTTLE)) == {cap}
    gpus.gpus[0].put("violation.hw_thermal", 2_000_000_000)
    gpus.driver.write()
    gpus.until(lambda b: series_of(b, catalogue.THROTTLE).get(held) == 2.0)
    gpus.gpus[0].put("violation.hw_thermal", 0)
    gpus.driver.write()
    gpus.until(lambda b: series_of(b, catalogue.THROTTLE).get(held) == 0.0)


def test_a_board_without_activity_tells_use_of_its_memory_and_that_it_counts_no_operations(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("a100-sxm4-80gb")
    batch = gpus.until(lambda b: not b.faults and bool(series_of(b, DEVICE_CAPABILITY)))
    assert engines(batch) == {"busy", "memory"}
    flags = {labels[2:] for labels in series_of(batch, DEVICE_CAPABILITY)}
    assert ("operations", "unsupported") in flags
    assert not series_of(batch, OPERATIONS)


def test_an_unknown_level_of_detail_is_refused() -> None:
    with pytest.raises(ValueError, match="standard, full"):
        nvml.Settings(detail="most")


@pytest.mark.parametrize(("profile", "every_ms"), [("a100-sxm4-80gb", 100), ("t4", 50)])
def test_the_update_period_of_a_boards_power_is_measured_and_told(
    rig: Callable[..., Rig], profile: str, every_ms: int
) -> None:
    gpus = rig(profile, stopped=False)
    gpus.build(detail="full", power_period=0.1)
    gpus.gpus[0].put("load", "sine 60000 9000 3000")
    gpus.gpus[0].put("power_instant", f"every {every_ms} sum load")
    gpus.driver.write()
    label = ("nvml-power", "gpu", gpus.uuid(0))
    batch = gpus.until(lambda b: label in series_of(b, catalogue.METER_UPDATE))
    told_s = series_of(batch, catalogue.METER_UPDATE)[label]
    assert told_s == pytest.approx(every_ms / 1000, abs=0.03)


SHAPES: dict[str, Curve] = {
    "steady": Constant(350_000),
    **{f"square-{hertz:g}-Hz": Square(100_000, 650_000, 1000 / hertz, 30) for hertz in HERTZ},
    "square-of-37-percent": Square(100_000, 650_000, 730, 37),
    "sine": Sine(400_000, 250_000, 1_700),
    "ramp": Ramp(80_000, 680_000, 21_000),
    "bursts": Steps(((60, 650_000), (840, 100_000), (100, 500_000), (1000, 100_000))),
}
"""Every shape of the kit, in mW."""


@pytest.mark.parametrize("shape", SHAPES)
def test_energy_by_counter_is_within_half_a_percent_of_any_load(
    rig: Callable[..., Rig], shape: str
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].put("load", SHAPES[shape])
    gpus.driver.write()
    gpus.book()
    gpus.ran(30)
    assert energy(gpus, 0) == pytest.approx(SHAPES[shape].integral(30.0) / 1000, rel=0.005)


def test_no_shape_of_the_kit_is_left_out() -> None:
    kinds = {type(curve) for curve in SHAPES.values()}
    assert kinds == {one for one in vars(curves).values() if hasattr(one, "integral")} - {Curve}


@pytest.mark.parametrize(
    ("lacking", "watts"),
    [((), 310.0), (("power_average",), 320.0), (("power_average", "power_instant"), 330.0)],
)
def test_integrated_power_is_the_mean_of_a_second_or_the_next_best(
    rig: Callable[..., Rig], lacking: tuple[str, ...], watts: float
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(power_average=310_000, power_instant=320_000, power=330_000).drop(*lacking)
    gpus.driver.write()
    labels = ("gpu", gpus.uuid(0), "nvml-power", "measured")
    assert series_of(gpus.source.read(), COMPONENT_ENERGY)[labels] == watts


@pytest.mark.parametrize("degrees", [12, 1, 0, -1, -2])
def test_a_gpu_beyond_its_limit_tells_by_how_many_degrees(
    rig: Callable[..., Rig], degrees: int
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].put("temperature.margin", degrees)
    gpus.driver.write()
    batch = gpus.until(lambda batch: not batch.faults)
    margins = series_of(batch, catalogue.TEMPERATURE_MARGIN)
    assert margins[("gpu", gpus.uuid(0), "die")] == degrees


def test_joules_have_the_time_of_their_counter_however_long_other_calls_take(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.build(patience=30.0)
    gpus.until(lambda batch: not batch.faults)
    gpus.gpus[0].delay("nvmlDeviceGetFieldValues", 300)
    gpus.driver.write()
    gpus.source.read()
    batch = gpus.source.read()
    told = next(r for r in batch.readings if r.channel.metric is COMPONENT_ENERGY)
    power_and_fields_ns = 2 * 300_000_000
    assert SystemClock().monotonic_ns() - told.at_ns >= power_and_fields_ns


def test_an_xid_is_counted_in_all_and_by_its_code(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5", "h100-sxm5")
    gpus.gpus[1].set(uuid="GPU-other")
    gpus.driver.write()
    gpus.until(lambda batch: bool(series_of(batch, DEVICE_ERRORS)))
    gpus.gpus[0].event(1, 8, 79).event(2, 8, 79).event(3, 8, 48)
    gpus.driver.write()
    errors = series_of(gpus.source.read(), DEVICE_ERRORS)
    uuid = gpus.uuid(0)
    assert errors[("gpu", uuid, "xid")] == 3
    assert errors[("gpu", uuid, "xid_79")] == 2
    assert errors[("gpu", uuid, "xid_48")] == 1
    assert errors[("gpu", "GPU-other", "xid")] == 0


# -- the worker's life ----------------------------------------------------------------------------


def test_without_a_driver_nothing_is_started(tmp_path: Path) -> None:
    gpus = Rig(tmp_path)
    (gpus.root / "dev" / "nvidiactl").unlink()
    with pytest.raises(SourceError) as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.ABSENT
    assert gpus.source.worker.pid is None


def test_a_driver_without_gpus_is_up_with_its_version(rig: Callable[..., Rig]) -> None:
    batch = rig().source.read()
    assert series_of(batch, DRIVER_INFO) == {("nvidia", "580.95.05"): 1.0}
    assert not batch.faults


def test_a_library_without_a_loaded_driver_is_absent(rig: Callable[..., Rig]) -> None:
    gpus = rig("t4")
    gpus.driver.driver.set(status=9)
    gpus.driver.write()
    with pytest.raises(SourceError, match="driver not loaded") as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.ABSENT


def test_a_killed_worker_is_lost_once_and_the_next_read_starts_another(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.source.read()
    process = gpus.source.worker._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(SourceError, match="killed by signal 9") as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.LOST
    assert gpus.source.read().readings
    assert gpus.source.worker.pid != process.pid


def test_closing_ends_the_worker_and_shuts_the_driver_down(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    gpus.source.read()
    process = gpus.source.worker._process
    assert process is not None
    gpus.source.close()
    gpus.source.close()
    assert process.returncode == 0
    assert gpus.driver.calls()[-1].function == "nvmlShutdown"
    assert gpus.source.read().readings


def test_sigusr1_releases_the_devices_and_the_source_stays_away(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    gpus.source.read()
    process = gpus.source.worker._process
    assert process is not None
    process.send_signal(10)
    process.wait(PATIENCE_S)
    with pytest.raises(SourceError, match="SIGUSR1") as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.ABSENT
    with pytest.raises(SourceError, match="released by SIGUSR1 for 60 s"):
        gpus.source.read()
    assert gpus.driver.calls()[-1].function == "nvmlShutdown"
    gpus.clock.leap(61)
    assert gpus.source.read().readings


def test_the_release_file_keeps_the_devices_free_while_it_is_there(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.source.read()
    flag = gpus.root / "run" / "joulefloor" / "release-gpus"
    flag.parent.mkdir(parents=True)
    flag.touch()
    with pytest.raises(SourceError, match="release-gpus exists; remove it"):
        gpus.source.read()
    assert gpus.source.worker.pid is None
    flag.unlink()
    assert gpus.source.read().readings


def test_a_lost_gpu_is_looked_for_by_a_new_worker_now_and_then(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5", "h100-sxm5")
    gpus.until(quiet)
    gpus.gpus[0].set(state="lost")
    gpus.driver.write()
    gpus.source.read()
    first = gpus.source.worker.pid
    gpus.clock.leap(59)
    gpus.source.read()
    assert gpus.source.worker.pid == first
    gpus.clock.leap(2)
    batch = gpus.source.read()
    assert gpus.source.worker.pid != first
    assert ("gpu", gpus.uuid(1), "nvml", "measured") in series_of(batch, COMPONENT_ENERGY)
    assert reasons_of(batch, gpus.uuid(0)) == {Reason.LOST}


def test_a_worker_whose_gpus_all_hang_is_replaced(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5", "h100-sxm5")
    gpus.build(patience=1.0)
    gpus.until(quiet)
    first = gpus.source.worker.pid
    for gpu in gpus.gpus:
        gpu.hang(POWER_FIELD)
    gpus.driver.write()
    gpus.until(lambda batch: not batch.readings)
    gpus.clock.leap(31)
    with pytest.raises(SourceError, match="no GPU answered for 30 s"):
        gpus.source.read()
    for gpu in gpus.gpus:
        gpu.heal()
    gpus.driver.write()
    gpus.until(quiet)
    assert gpus.source.worker.pid != first


def test_an_old_package_that_hides_nvidias_binding_is_named(
    rig: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "site" / "pynvml"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text("def nvmlInit(): pass\n")
    monkeypatch.setenv("PYTHONPATH", str(old.parent))
    with pytest.raises(SourceError, match="pip uninstall pynvml") as caught:
        rig("t4").source.read()
    assert caught.value.reason is Reason.UNSUPPORTED
    assert str(old) in caught.value.detail


# -- the ten hardest cases ------------------------------------------------------------------------


def test_case_1_a_gpu_whose_power_call_never_returns_costs_its_own_series_only(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig(*["h100-sxm5"] * 8)
    gpus.build(patience=1.0)
    gpus.until(lambda batch: not batch.faults)
    gpus.gpus[5].hang(POWER_FIELD)
    gpus.driver.write()
    gpus.until(lambda batch: Reason.LATE in reasons_of(batch, gpus.uuid(5)))
    before = gpus.source.read()
    gpus.pass_time(1)
    after = gpus.source.read()
    energies = [series_of(batch, COMPONENT_ENERGY) for batch in (before, after)]
    for number in range(8):
        labels = ("gpu", gpus.uuid(number), "nvml", "measured")
        if number == 5:
            assert labels not in energies[1]
        else:
            assert energies[1][labels] > energies[0][labels]
    assert reasons_of(after, gpus.uuid(5)) == {Reason.LATE}
    assert all(POWER_FIELD in f.detail for f in after.faults)
    gpus.gpus[5].heal()
    gpus.driver.write()
    gpus.until(lambda batch: not batch.faults)


def test_case_2_a_gpu_that_is_lost_and_returns_with_a_smaller_counter_makes_no_spike(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", "h100-sxm5")
    for gpu in gpus.gpus:
        gpu.set(load=500_000)
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(5)
    assert energy(gpus, 0) == pytest.approx(2500)
    gpus.gpus[0].set(state="lost")
    gpus.ran(3)
    lost = gpus.source.read()
    assert reasons_of(lost, gpus.uuid(0)) == {Reason.LOST}
    assert not any(gpus.uuid(0) in labels for labels in series_of(lost, COMPONENT_ENERGY))
    gpus.gpus[0].drop("state").then(gpus.now_ns, "energy", "integral load")
    gpus.pass_time(1)
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(4)
    assert 2500 + 4 * 500 <= energy(gpus, 0) <= 2500 + 9 * 500
    assert energy(gpus, 1) == pytest.approx(13 * 500)
    assert all(watts <= 700 for watts in gpus.series(COMPONENT_POWER).values())


def test_case_2_a_gpu_that_returns_leaves_nothing_allocated_behind(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.until(has_activity)
    for _ in range(2):
        gpus.gpus[0].set(state="lost")
        gpus.driver.write()
        gpus.until(lambda b: reasons_of(b, gpus.uuid(0)) == {Reason.LOST})
        gpus.gpus[0].drop("state")
        gpus.driver.write()
        gpus.until(has_activity)
    calls = Counter(call.function for call in gpus.driver.calls())
    assert calls["nvmlGpmSampleAlloc"] == calls["nvmlGpmSampleFree"] + 2 == 6
    assert calls["nvmlEventSetCreate"] == calls["nvmlEventSetFree"] + 1 == 3


def test_case_3_a_new_driver_is_followed_by_a_new_worker_and_the_total_goes_on(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(load=400_000)
    gpus.driver.write()
    gpus.book()
    gpus.ran(5)
    gpus.driver.driver.set(status=9)
    gpus.pass_time(1)
    with pytest.raises(SourceError, match="driver not loaded") as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.LOST
    gpus.outage()
    gpus.driver.driver.drop("status").set(version="590.10")
    gpus.gpus[0].then(gpus.now_ns, "energy", "integral load")
    gpus.pass_time(1)
    batch = gpus.book(gpus.until(lambda batch: not batch.faults))
    assert series_of(batch, DRIVER_INFO) == {("nvidia", "590.10"): 1.0}
    gpus.ran(3)
    assert 2000 + 3 * 400 <= energy(gpus, 0) <= 2000 + 5 * 400
    gpus.driver.driver.set(version="595.1")
    gpus.driver.write()
    with pytest.raises(SourceError, match="mismatch") as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.LOST
    gpus.outage()
    before = energy(gpus, 0)
    gpus.clock.leap(3)
    batch = gpus.book(gpus.until(lambda batch: not batch.faults))
    assert series_of(batch, DRIVER_INFO) == {("nvidia", "595.1"): 1.0}
    gpus.ran(3)
    assert before + 3 * 400 <= energy(gpus, 0) <= before + 5 * 400


def test_case_4_two_gpus_of_a_gb200_board_show_its_module_once_and_never_add_it(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig(*["gb200"] * 4)
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(10)
    modules = {
        labels: joules
        for labels, joules in gpus.series(PART_ENERGY).items()
        if labels[0] == "module"
    }
    boards = {gpu.keys["serial"] for gpu in gpus.gpus}
    assert len(boards) == 2
    assert {labels[1] for labels in modules} == {f"board-{serial}" for serial in boards}
    module_watts = 2 * 165.93 + 135.31
    assert sum(modules.values()) == pytest.approx(2 * 10 * module_watts, rel=0.01)
    components = gpus.series(COMPONENT_ENERGY)
    assert sum(components.values()) == pytest.approx(4 * 10 * 165.93, rel=0.01)
    assert {labels[0] for labels in components} == {"gpu"}
    assert not gpus.series(NODE_ENERGY)


def test_case_4_a_gpu_its_memory_and_its_module_are_three_scopes_and_one_is_the_component(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("gb200", "gb200")
    gpus.build(detail="full")
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(10)
    told = gpus.series(PART_ENERGY)
    memory = {labels[1]: joules for labels, joules in told.items() if labels[2] == "memory"}
    module = [joules for labels, joules in told.items() if labels[2] == "module"]
    watts = float(gpus.gpus[0].keys["memory_load"]) / 1000
    assert memory == pytest.approx({gpus.uuid(n): 10 * watts for n in (0, 1)}, rel=0.01)
    assert len(module) == 1, "two GPUs, one board"
    components = gpus.series(COMPONENT_ENERGY)
    assert sum(components.values()) == pytest.approx(2 * 10 * 165.93, rel=0.01)
    node = gpus.series(catalogue.NODE_COMPONENT_ENERGY)
    assert node == {("gpu", "measured"): pytest.approx(sum(components.values()))}


def test_case_4_the_counter_of_a_gh200_is_its_modules_and_the_gpu_is_integrated(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(name="NVIDIA GH200 480GB", load=300_000)
    gpus.gpus[0].put("energy", "integral module_load").set(module_load=500_000)
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(10)
    assert energy(gpus, 0, "nvml-power") == pytest.approx(3000)
    module = ("module", f"board-{gpus.gpus[0].keys['serial']}", "module", "nvml", "measured")
    assert gpus.series(PART_ENERGY)[module] == pytest.approx(5000)


def mig(gpus: Rig, slot: int, uuid: str, slices: int, gib: int, *, gi: int = 1) -> None:
    """Create a MIG instance on the first GPU."""
    gpus.gpus[0].put("mig.current", 1).put("mig.pending", 1)
    instance = gpus.driver.instance(0, slot)
    instance.set(uuid=uuid, gi=gi, ci=0, gi_slices=slices, ci_slices=slices, sms=16 * slices)
    instance.put("memory.total", gib * 2**30 - 300 * 2**20)


def parts(gpus: Rig) -> dict[str, float]:
    """Joules of the modelled parts of the first GPU."""
    return {
        labels[2]: joules
        for labels, joules in gpus.series(PART_ENERGY).items()
        if labels[1] == gpus.uuid(0) and labels[4] == "modelled"
    }


def test_case_5_mig_instances_come_and_go_and_their_joules_sum_to_the_board(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("a100-sxm4-80gb")
    gpus.gpus[0].set(load=280_000)
    mig(gpus, 0, "MIG-a", 3, 40, gi=1)
    mig(gpus, 1, "MIG-b", 1, 10, gi=2)
    gpus.gpus[0].process(100, 2**30, "gi=1", "ci=0")
    gpus.driver.write()
    gpus.until(lambda batch: not batch.faults)
    gpus.book()
    gpus.ran(10)
    shares = parts(gpus)
    assert shares["mig:3g.40gb:MIG-a"] == pytest.approx(10 * 280 * 3 / 7)
    assert shares["mig:1g.10gb:MIG-b"] == 0
    assert shares["idle"] == pytest.approx(10 * 280 * 4 / 7)
    assert sum(shares.values()) == pytest.approx(energy(gpus, 0))
    gpus.driver.remove(0, 0)
    gpus.ran(5)
    mig(gpus, 0, "MIG-a", 2, 20, gi=1)

    gpus.ran(5)
    shares = parts(gpus)
    assert shares["mig:2g.20gb:MIG-a"] > 0
    assert shares["mig:3g.40gb:MIG-a"] == pytest.approx(10 * 280 * 3 / 7)
    # A new instance is metered from its second round on: at most one round's share is missing.
    assert energy(gpus, 0) - 280 <= sum(shares.values()) <= energy(gpus, 0) * (1 + 1e-9)


def test_case_5_the_activity_of_an_instance_weighs_its_share(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    mig(gpus, 0, "MIG-a", 3, 40, gi=1)
    gpus.driver.instance(0, 0).put("gpm.1", 50)
    gpus.driver.write()
    labels = ("gpu", gpus.uuid(0), "mig:3g.40gb:MIG-a", "nvml", "modelled")
    gpus.until(lambda b: series_of(b, PART_ENERGY).get(labels, 0) > 0)
    first = series_of(gpus.source.read(), PART_ENERGY)
    more = gpus.until(lambda b: series_of(b, PART_ENERGY)[labels] > first[labels] + 1)
    second = series_of(more, PART_ENERGY)
    idle = ("gpu", gpus.uuid(0), "idle", "nvml", "modelled")
    share = second[labels] - first[labels]
    assert share / (share + second[idle] - first[idle]) == pytest.approx(0.5 * 3 / 7, rel=0.3)


def test_case_5_compute_instances_of_one_gpu_instance_share_its_size_and_activity(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    for slot in range(7):
        mig(gpus, slot, f"MIG-{slot}", 1, 80, gi=0)
        gpus.driver.instance(0, slot).set(gi_slices=7, ci=slot).put("gpm.1", 30)
    gpus.driver.write()
    name = "mig:1c.7g.80gb:MIG-{}"

    def told(batch: Batch) -> dict[str, float]:
        return {labels[2]: joules for labels, joules in series_of(batch, PART_ENERGY).items()}

    first = told(gpus.until(lambda b: told(b).get(name.format(0), 0.0) > 0))
    more = first[name.format(0)] + 1
    second = told(gpus.until(lambda b: told(b)[name.format(0)] > more))
    spent = {part: joules - first[part] for part, joules in second.items()}
    assert set(spent) == {*map(name.format, range(7)), "idle"}
    assert spent["idle"] / sum(spent.values()) == pytest.approx(0.7)
    assert spent[name.format(6)] / sum(spent.values()) == pytest.approx(0.3 / 7)
    opened = [call for call in gpus.driver.calls() if call.function == "nvmlGpmSampleAlloc"]
    assert len(opened) == 4, "two samples of the board, and two of the one GPU instance"


@pytest.mark.parametrize(
    ("profiles", "size", "slices"),
    [({0: 1, 1: 2, 3: 4}, 4, 4), ({0: 1, 9: 1, 12: 2}, 1, 2), ({}, 4, 7)],
    ids=["A30", "RTX PRO 5000", "a driver that tells no profiles"],
)
def test_case_5_the_size_of_a_board_is_that_of_its_largest_profile(
    rig: Callable[..., Rig], profiles: dict[int, int], size: int, slices: int
) -> None:
    gpus = rig("a100-sxm4-80gb")
    board = gpus.gpus[0].set(load=280_000)
    board.drop(*(f"mig.profile.{number}" for number in range(18)))
    for number, told in profiles.items():
        board.put(f"mig.profile.{number}", told)
    mig(gpus, 0, "MIG-a", size, 24, gi=1)
    board.process(100, 2**30, "gi=1", "ci=0")
    gpus.driver.write()
    gpus.until(quiet)
    gpus.book()
    gpus.ran(10)
    shares = parts(gpus)
    assert shares[f"mig:{size}g.24gb:MIG-a"] == pytest.approx(10 * 280 * size / slices)
    assert shares["idle"] == pytest.approx(10 * 280 * (1 - size / slices))


@pytest.mark.parametrize(
    ("lacking", "sizes"), [((), {"MIG-a": 3 / 7, "MIG-b": 1 / 7}), (range(18), {})]
)
def test_case_5_the_sizes_of_instances_are_told_to_the_bills_where_the_driver_knows_them(
    rig: Callable[..., Rig], lacking: Sequence[int], sizes: dict[str, float]
) -> None:
    gpus = rig("a100-sxm4-80gb", "a100-sxm4-80gb")
    gpus.gpus[0].drop(*(f"mig.profile.{number}" for number in lacking))
    mig(gpus, 0, "MIG-a", 3, 40, gi=1)
    mig(gpus, 1, "MIG-b", 1, 10, gi=2)
    gpus.driver.write()
    batch = gpus.until(lambda b: quiet(b) and bool(series_of(b, PART_ENERGY)))
    told = series_of(batch, catalogue.WORKLOAD_DEVICE_SHARE)
    board = gpus.uuid(0)
    assert told == {("gpu", name, "idle", board, "", "size"): one for name, one in sizes.items()}
    assert (batch.readings[0].channel.measures is Measures.HOLD) == bool(sizes)
    gpus.book(batch)
    assert not gpus.series(catalogue.WORKLOAD_DEVICE_SHARE), "they are nobody's shares"


def test_case_6_processes_on_one_gpu_sum_to_it_with_idle_apart(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.build(process_parts=True)
    gpu = gpus.gpus[0]
    gpu.process(11, 2**30, 30, 5).process(12, 2**30, 20, 5).process(13, 2**30)
    gpu.process(14, 2**30, 10, 1, "mps")
    gpus.driver.write()

    def shares(batch: Batch) -> dict[str, float]:
        found = series_of(batch, PART_ENERGY).items()
        return {labels[2]: joules for labels, joules in found if labels[4] == "modelled"}

    batch = gpus.until(lambda b: min(shares(b).get("process:11", 0), shares(b).get("idle", 0)) > 1)
    told = shares(batch)
    assert set(told) == {"process:11", "process:12", "process:13", "process:14", "idle"}
    assert told["process:13"] == 0
    assert told["process:11"] >= told["process:12"] >= told["process:14"] > 0
    gpu.processes.clear()
    gpu.process(12, 2**30, 20, 5)
    gpus.driver.write()
    gone = gpus.until(lambda b: "process:11" not in shares(b))
    gpu.process(11, 2**30, 1, 1)
    gpus.driver.write()
    again = gpus.until(lambda b: "process:11" in shares(b))
    assert shares(again)["process:11"] >= told["process:11"], "a reused PID goes on"
    assert "process:12" in shares(gone)


def test_case_7_every_mix_of_answers_is_a_value_or_a_reason_and_never_a_false_zero(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.build(detail="full")
    uuid = gpus.uuid(0)
    gpu = gpus.gpus[0]
    gpus.until(lambda batch: not batch.faults)
    gpu.put("temperature.memory", "error 999").put("nvlink.data_tx_kib", "denied")
    gpu.put("violation.sw_thermal", "as double 1500000000")
    gpu.put("pcie.replays", "as uint 4294967295").put("power_average", 0)
    gpu.fail("nvmlDeviceGetTemperature", 26).fail("nvmlDeviceGetMemoryInfo", 13)
    gpu.fail("nvmlDeviceGetEnforcedPowerLimit", 4)
    gpus.driver.write()
    batch = gpus.until(
        lambda b: (
            series_of(b, catalogue.THROTTLE).get(("gpu", uuid, "sw_thermal_slowdown")) == 1.5
            and Reason.GARBLED in reasons_of(b, uuid)
        )
    )
    read = {reading.channel.key for reading in batch.readings}
    told = {fault.channel.key: fault.reason for fault in batch.faults if fault.channel is not None}
    temperatures = catalogue.TEMPERATURE.name
    assert told[temperatures, ("gpu", uuid, "memory")] is Reason.LOST
    assert told[catalogue.LINK.name, ("gpu", uuid, "nvlink", "transmit")] is Reason.DENIED
    assert (catalogue.LINK.name, ("gpu", uuid, "nvlink", "receive")) in read
    assert told[DEVICE_ERRORS.name, ("gpu", uuid, "pcie_replay")] is Reason.LATE
    power = (COMPONENT_ENERGY.name, ("gpu", uuid, "nvml-power", "measured"))
    assert told[power] is Reason.GARBLED
    limit = (catalogue.COMPONENT_POWER_LIMIT.name, ("gpu", uuid, "enforced"))
    assert told[limit] is Reason.DENIED
    assert not read & {*told, (temperatures, ("gpu", uuid, "die"))}
    assert not any(name == catalogue.MEMORY.name for name, _ in read)
    states = {labels[2:] for labels in series_of(batch, DEVICE_CAPABILITY)}
    assert {
        ("temperature_die", "unsupported"),
        ("memory", "unsupported"),
        ("power_limit", "denied"),
        ("nvlink", "denied"),
    } <= states


def test_case_7_one_bad_read_blacklists_nothing(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].fail("nvmlDeviceGetTemperature", 3, first=2)
    gpus.gpus[0].fail(ENERGY, 999, first=1)
    gpus.driver.write()
    batch = gpus.source.read()
    energies = series_of(batch, COMPONENT_ENERGY)
    assert ("gpu", gpus.uuid(0), "nvml", "measured") not in energies
    batch = gpus.until(lambda batch: not batch.faults)
    batch = gpus.source.read()
    assert ("gpu", gpus.uuid(0), "die") in series_of(batch, catalogue.TEMPERATURE)
    assert not series_of(batch, DEVICE_CAPABILITY)


CALLS = {
    ENERGY: (COMPONENT_ENERGY.name, "nvml"),
    "nvmlDeviceGetTemperature": (catalogue.TEMPERATURE.name, "die"),
    "nvmlDeviceGetMarginTemperature": (catalogue.TEMPERATURE_MARGIN.name, "die"),
    "nvmlDeviceGetPerformanceState": (catalogue.PERFORMANCE_STATE.name, ""),
    "nvmlDeviceGetMemoryInfo": (catalogue.MEMORY.name, "used"),
    "nvmlDeviceGetUtilizationRates": (UTILIZATION.name, "kernel"),
    "nvmlDeviceGetEnforcedPowerLimit": (catalogue.COMPONENT_POWER_LIMIT.name, "enforced"),
    POWER_FIELD: (catalogue.THROTTLE.name, "sw_power_cap"),
    "nvmlDeviceGetMigMode": ("", ""),
    "nvmlGpmSampleGet": ("", ""),
    "nvmlGpmMetricsGet": ("", ""),
}
"""A call and the series that must be absent when it fails."""
CODES = (2, 3, 4, 6, 7, 10, 13, 14, 15, 16, 17, 19, 20, 21, 23, 25, 26, 27, 28, 999, 12345)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    gpus = Rig(tmp_path_factory.mktemp("board"), "h100-sxm5", "h100-sxm5")
    gpus.build(detail="full")
    gpus.until(quiet)
    yield gpus
    gpus.source.close()


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CALLS)), st.sampled_from(CODES), max_size=5))
def test_case_7_whatever_calls_answer_there_is_a_reading_or_none_and_others_stand(
    board: Rig, failures: dict[str, int]
) -> None:
    for function, code in failures.items():
        board.gpus[0].fail(function, code)
    board.driver.write()
    batch = board.source.read()
    board.gpus[0].heal()
    board.driver.write()
    mine = {r.channel.key for r in batch.readings if board.uuid(0) in r.channel.labels}
    for function in failures:
        name, label = CALLS[function]
        absent = [key for key in mine if key[0] == name and (not label or label in key[1])]
        assert not absent, function
    theirs = {r.channel.metric.name for r in batch.readings if board.uuid(1) in r.channel.labels}
    assert {COMPONENT_ENERGY.name, catalogue.TEMPERATURE.name, UTILIZATION.name} <= theirs
    assert not reasons_of(batch, board.uuid(1))


def test_case_8_a_counter_that_freezes_hands_over_to_integrated_power(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(load=300_000)
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(10)
    gpus.gpus[0].then(gpus.now_ns, "energy", 3_000_000)
    seen = []
    for _ in range(80):
        gpus.ran(1)
        seen.append(sum(gpus.series(COMPONENT_ENERGY).values()))
    assert events(gpus, 0)["frozen"] == 1
    assert seen == sorted(seen)
    assert seen[-1] >= 3000 + 15 * 300
    assert ("gpu", gpus.uuid(0), "nvml-power", "measured") in gpus.series(COMPONENT_POWER)


def test_case_8_a_counter_that_jumps_adds_nothing_and_says_so(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(load=300_000)
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(5)
    gpus.gpus[0].then(gpus.now_ns, "energy", "integral load 900000000")
    gpus.ran(5)
    assert 5 * 300 <= energy(gpus, 0) <= 10 * 300
    assert events(gpus, 0).get("rejected", 0) >= 1


def test_case_8_a_counter_forty_percent_off_raises_a_disagreement(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(load=300_000).put("energy", "integral load 0 1.4")
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(125)
    assert events(gpus, 0, "nvml-power")["disagreement"] >= 1
    other = ("component", "gpu", gpus.uuid(0), "nvml-power", "measured")
    assert gpus.series(ALTERNATE_ENERGY)[other] == pytest.approx(125 * 300, rel=0.02)


@pytest.mark.parametrize(
    ("memory", "shares"),
    [((3 * 2**30, 2**30), (0.45, 0.15)), ((2**30, 0), (0.3, 0.3))],
    ids=["by-memory", "alike-where-memory-is-unknown"],
)
def test_case_6_without_samples_of_processes_use_goes_by_the_memory_they_hold(
    rig: Callable[..., Rig], memory: tuple[int, int], shares: tuple[float, float]
) -> None:
    gpus = rig("h100-sxm5")
    gpus.build(process_parts=True)
    gpu = gpus.gpus[0].set(load=400_000, utilization__gpu=60)
    gpu.process(11, memory[0], 30, 5).process(12, memory[1], 20, 5)
    gpu.fail("nvmlDeviceGetProcessUtilization", 3)
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(10)
    told = parts(gpus)
    assert told["process:11"] == pytest.approx(4000 * shares[0])
    assert told["process:12"] == pytest.approx(4000 * shares[1])
    assert told["idle"] == pytest.approx(4000 * 0.4)


def quiet(batch: Batch) -> bool:
    return not batch.faults


def test_case_10_activity_becomes_operations_by_the_peak_of_the_pipe(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].put("gpm.7", 50).put("gpm.5", 50).set(clock__sm=1830)
    gpus.driver.write()
    labels = ("gpu", gpus.uuid(0), "fp16", "nvml-gpm", "modelled")
    first = gpus.until(lambda b: series_of(b, OPERATIONS).get(labels, 0) > 0)
    before = next(r for r in first.readings if r.channel.labels == labels)
    half_peak = 0.5 * 989.4e12
    enough = before.value + 0.8 * half_peak
    second = gpus.until(lambda b: series_of(b, OPERATIONS).get(labels, 0) > enough)
    after = next(r for r in second.readings if r.channel.labels == labels)
    seconds = (after.at_ns - before.at_ns) / 1e9
    rate = (after.value - before.value) / seconds
    assert rate == pytest.approx(half_peak, rel=0.1)
    assert series_of(second, UTILIZATION)[("gpu", gpus.uuid(0), "tensor")] == pytest.approx(0.5)


def test_case_10_more_than_the_physical_peak_is_a_fault_and_an_event_and_counts_nothing(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].put("gpm.7", 140).set(clock__sm=1830)
    gpus.driver.write()
    batch = gpus.until(lambda b: Reason.GARBLED in reasons_of(b, gpus.uuid(0)))
    assert any("physical peak" in fault.detail for fault in batch.faults)
    assert not series_of(batch, OPERATIONS)
    gpus.book(batch)
    assert events(gpus, 0, "nvml-gpm") == {"rejected": 1.0}


def test_case_8_watts_above_what_the_board_can_draw_are_an_event_and_no_energy(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5")
    gpus.gpus[0].set(load=300_000, power_average=300_000).drop("energy")
    gpus.driver.write()
    gpus.book(gpus.until(lambda batch: not batch.faults))
    gpus.ran(5)
    gpus.gpus[0].set(power_average=2_000_000)
    gpus.ran(1)
    assert events(gpus, 0, "nvml-power") == {"rejected": 1.0}
    assert ("gpu", gpus.uuid(0), "nvml-power", "measured") not in gpus.series(COMPONENT_POWER)
    gpus.gpus[0].set(power_average=300_000)
    gpus.ran(4)
    assert energy(gpus, 0, "nvml-power") == pytest.approx(10 * 300)


def test_case_10_cycle_counters_are_preferred_where_the_driver_has_them(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].put("gpm.248", "rate 1830000000").put("gpm.252", "rate 457500000")
    gpus.gpus[0].set(clock__sm=1830)
    gpus.driver.write()
    labels = ("gpu", gpus.uuid(0), "fp16", "nvml-cycles", "modelled")
    first = gpus.until(lambda b: series_of(b, OPERATIONS).get(labels, 0) > 0)
    before = next(r for r in first.readings if r.channel.labels == labels)
    quarter_peak = 0.25 * 1.83e9 * 132 * 4096
    enough = before.value + 0.8 * quarter_peak
    second = gpus.until(lambda b: series_of(b, OPERATIONS).get(labels, 0) > enough)
    after = next(r for r in second.readings if r.channel.labels == labels)
    rate = (after.value - before.value) / ((after.at_ns - before.at_ns) / 1e9)
    assert rate == pytest.approx(quarter_peak, rel=0.1)
    assert not any(labels[3] == "nvml-gpm" for labels in series_of(second, OPERATIONS))


def test_case_10_an_old_driver_that_refuses_cycle_counters_still_tells_activity(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].put("gpm.7", 50).set(clock__sm=1830).put("gpm.newest", 247)
    gpus.driver.write()
    labels = ("gpu", gpus.uuid(0), "fp16", "nvml-gpm", "modelled")
    gpus.until(lambda b: series_of(b, OPERATIONS).get(labels, 0) > 0)


def test_case_10_samples_from_before_a_reload_and_failing_samples_make_no_spike(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].put("gpm.7", 50).set(clock__sm=1830)
    gpus.driver.write()
    labels = ("gpu", gpus.uuid(0), "fp16", "nvml-gpm", "modelled")
    gpus.until(lambda b: series_of(b, OPERATIONS).get(labels, 0) > 0)
    gpus.gpus[0].fail("nvmlGpmSampleGet", 999)
    gpus.driver.write()
    batch = gpus.until(lambda b: Reason.LOST in reasons_of(b, gpus.uuid(0)))
    assert ("gpu", gpus.uuid(0), "tensor") not in series_of(batch, UTILIZATION)
    gpus.gpus[0].heal()
    gpus.driver.write()
    batch = gpus.until(lambda b: labels in series_of(b, OPERATIONS))
    assert ("gpu", gpus.uuid(0), "tensor") in series_of(batch, UTILIZATION)


def test_case_10_an_unknown_gpu_has_activity_but_no_operations_and_a_flag(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].set(name="NVIDIA X999").put("gpm.7", 50)
    gpus.driver.write()
    flag = ("gpu", gpus.uuid(0), "operations", "unknown_peak")
    batch = gpus.until(lambda b: flag in series_of(b, DEVICE_CAPABILITY))
    assert not series_of(batch, OPERATIONS)
    assert ("gpu", gpus.uuid(0), "tensor") in series_of(batch, UTILIZATION)


def spent(batch: Batch) -> tuple[dict[str, float], float]:
    """Joules of each part and of the board, by its counter."""
    told = {labels[2]: joules for labels, joules in series_of(batch, PART_ENERGY).items()}
    energies = series_of(batch, COMPONENT_ENERGY).items()
    (board,) = [joules for labels, joules in energies if labels[2] == "nvml"]
    return told, board


@pytest.mark.parametrize(
    "call",
    [
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetGpuInstanceId",
        "nvmlDeviceGetAttributes",
        "nvmlGpmMigSampleGet",
    ],
)
def test_case_10_an_instance_that_vanishes_in_the_middle_of_a_read_costs_no_joule(
    rig: Callable[..., Rig], call: str
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].set(load=400_000)
    for slot, slices in enumerate((3, 1)):
        mig(gpus, slot, f"MIG-{slot}", slices, 10 * slices, gi=slot + 1)
        gpus.driver.instance(0, slot).put("gpm.1", 50)
    gpus.driver.write()
    gone = "mig:1g.10gb:MIG-1"
    before, board_before = spent(gpus.until(lambda b: spent(b)[0].get(gone, 0.0) > 0))
    whole = call == "nvmlGpmMigSampleGet"
    (gpus.gpus[0] if whole else gpus.driver.instance(0, 1)).fail(call, 6)
    gpus.driver.write()
    last = {**before}

    def goes_on(batch: Batch) -> bool:
        told, board = spent(batch)
        last.update(told)
        return board > board_before + 40

    batch = gpus.until(goes_on)
    assert not batch.faults
    assert {r.channel.metric for r in batch.readings} >= {COMPONENT_ENERGY, catalogue.TEMPERATURE}
    gpus.driver.remove(0, 1)
    gpus.gpus[0].heal()
    gpus.driver.write()
    after, board = spent(
        gpus.until(lambda b: bool(spent(b)[0]) and gone not in spent(b)[0] and not b.faults)
    )
    joules = sum((last | after).values()) - sum(before.values())
    assert joules == pytest.approx(board - board_before, rel=1e-6)


def test_case_10_no_two_samples_less_than_100_ms_apart_are_compared(
    rig: Callable[..., Rig],
) -> None:
    gpus = rig("h100-sxm5", stopped=False)
    gpus.gpus[0].work(1500, {7: 40.0})
    gpus.driver.write()
    gpus.until(has_activity)
    gpus.driver.forget_calls()
    seen = [gpus.source.read() for _ in range(60)]
    assert not any(batch.faults for batch in seen)
    gpus.until(has_activity)
    calls = gpus.driver.calls()
    taken = [c.monotonic_ns for c in calls if c.function == "nvmlGpmSampleGet"]
    assert len(taken) < len(seen), "most reads were too close to the last"
    apart = [later - sooner for sooner, later in pairwise(taken)]
    assert min(apart, default=10**9) >= 99_000_000
    compared = [c for c in calls if c.function == "nvmlGpmMetricsGet"]
    assert len(compared) == len(taken)
    done = ("gpu", gpus.uuid(0), "fp16", "nvml-cycles", "modelled")
    first = gpus.until(lambda b: done in series_of(b, OPERATIONS))
    second = gpus.until(lambda b: series_of(b, OPERATIONS).get(done, 0.0) > 0 and b is not first)
    instants = [next(r for r in b.readings if r.channel.labels == done) for b in (first, second)]
    seconds = (instants[1].at_ns - instants[0].at_ns) / 1e9
    rate = (instants[1].value - instants[0].value) / seconds
    assert rate == pytest.approx(0.4 * 1.5e9 * 132 * 4096, rel=0.3)


def test_case_10_a_round_makes_the_same_calls_whoever_looks(rig: Callable[..., Rig]) -> None:
    gpus = rig("h100-sxm5")
    gpus.build(power_period=60.0)
    gpus.until(quiet)
    for _ in range(4):
        gpus.source.read()
    gpus.driver.forget_calls()
    gpus.source.read()
    once = len(gpus.driver.calls())
    gpus.source.channels()
    gpus.source.channels()
    assert len(gpus.driver.calls()) == once
