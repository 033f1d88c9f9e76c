"""The fake driver under the unmodified binding: values, time, faults, versions, the call log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.query import eventually
from tests.nvml.curves import Constant, Ramp, Sine, Square, Steps
from tests.nvml.probe import Probe, Refused
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.nvml.curves import Curve
    from tests.nvml.scenario import FakeDriver

SECOND_NS = 1_000_000_000
POWER = "nvmlDeviceGetPowerUsage(h)"
ENERGY = "nvmlDeviceGetTotalEnergyConsumption(h)"

ONE_CALL_EACH = {
    "nvmlDeviceGetName(h)": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetUUID(h)": "GPU-00000000-0000-4000-8000-000000000000",
    "nvmlDeviceGetSerial(h)": "1650000000000",
    "nvmlDeviceGetBoardPartNumber(h)": "692-2G520-0200-000",
    "nvmlDeviceGetVbiosVersion(h)": "96.00.99.00.01",
    "nvmlDeviceGetMinorNumber(h)": 0,
    "nvmlDeviceGetIndex(h)": 0,
    "nvmlDeviceGetArchitecture(h)": 9,
    "nvmlDeviceGetCudaComputeCapability(h)": [9, 0],
    "nvmlDeviceGetPciInfo(h).busId": "00000000:00:00.0",
    "nvmlDeviceGetModuleId(h)": 7,
    POWER: 68_920,
    ENERGY: 68_920,
    "nvmlDeviceGetEnforcedPowerLimit(h)": 700_000,
    "nvmlDeviceGetPowerManagementLimit(h)": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit(h)": 700_000,
    "nvmlDeviceGetPowerManagementLimitConstraints(h)": [200_000, 700_000],
    "nvmlDeviceGetTemperature(h, 0)": 29,
    "nvmlDeviceGetTemperatureV(h, 0)": 29,
    "nvmlDeviceGetMarginTemperature(h)": 58,
    "nvmlDeviceGetClockInfo(h, 1)": 345,
    "nvmlDeviceGetClock(h, 2, 0)": 2619,
    "nvmlDeviceGetMaxClockInfo(h, 1)": 1980,
    "nvmlDeviceGetPerformanceState(h)": 0,
    "nvmlDeviceGetNumFans(h)": 0,
    "nvmlDeviceGetUtilizationRates(h)": {"gpu": 0, "memory": 0},
    "nvmlDeviceGetMemoryInfo(h).total": 85_520_809_984,
    "nvmlDeviceGetMemoryInfo(h).used": 503_316_480,
    "nvmlDeviceGetMemoryInfo(h, nvmlMemory_v2).used": 0,
    "nvmlDeviceGetMemoryInfo(h, nvmlMemory_v2).free": 85_017_493_504,
    "nvmlDeviceGetBAR1MemoryInfo(h).bar1Used": 1_048_576,
    "nvmlDeviceGetEccMode(h)": [1, 1],
    "nvmlDeviceGetTotalEccErrors(h, 1, 0)": 0,
    "nvmlDeviceGetRemappedRows(h)": [0, 0, 0, 0],
    "nvmlDeviceGetRowRemapperHistogram(h).max": 2560,
    "nvmlDeviceGetCurrentClocksEventReasons(h)": 1,
    "nvmlDeviceGetSupportedClocksEventReasons(h)": 511,
    "nvmlDeviceGetViolationStatus(h, 0).violationTime": 7_015_662_857_000,
    "nvmlDeviceGetPcieReplayCounter(h)": 150,
    "nvmlDeviceGetPcieThroughput(h, 0)": 0,
    "nvmlDeviceGetCurrPcieLinkGeneration(h)": 5,
    "nvmlDeviceGetCurrPcieLinkWidth(h)": 16,
    "nvmlDeviceGetEncoderUtilization(h)": [0, 167_000],
    "nvmlDeviceGetMigMode(h)": [0, 0],
    "nvmlDeviceGetMaxMigDeviceCount(h)": 0,
    "nvmlDeviceGetSupportedEventTypes(h)": 11,
    "nvmlDeviceGetComputeRunningProcesses(h)": [],
    "nvmlGpmQueryDeviceSupport(h).isSupportedDevice": 1,
}


def _field(probe: Probe, *wanted: int | tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return code, value type and value (as signed integer) of fields."""
    question = (
        f"[(v.nvmlReturn, v.valueType, v.value.sllVal) "
        f"for v in nvmlDeviceGetFieldValues(h, {list(wanted)!r})]"
    )
    answer = probe.device(question)
    assert isinstance(answer, list)
    return [tuple(entry) for entry in answer]


def _refusal(probe: Probe, question: str, gpu: int = 0) -> int:
    with pytest.raises(Refused) as refused:
        probe.device(question, gpu)
    return refused.value.code


def test_each_function_returns_what_the_scenario_says(h100: Probe) -> None:
    answers = {question: h100.device(question) for question in ONE_CALL_EACH}
    assert answers == ONE_CALL_EACH


def test_the_driver_says_its_versions_and_finds_gpus_by_uuid_and_bus(h100: Probe) -> None:
    assert h100.ask("nvmlSystemGetDriverVersion()") == "580.95.05"
    assert h100.ask("nvmlSystemGetNVMLVersion()") == "13.580.95.05"
    assert h100.ask("nvmlSystemGetCudaDriverVersion()") == 13000
    assert h100.ask("nvmlDeviceGetCount()") == 2
    uuid = h100.device("nvmlDeviceGetUUID(h)", 1)
    assert h100.ask(f"nvmlDeviceGetIndex(nvmlDeviceGetHandleByUUID({uuid!r}))") == 1
    bus = "nvmlDeviceGetHandleByPciBusId('00000000:01:00.0')"
    assert h100.ask(f"nvmlDeviceGetIndex({bus})") == 1
    with pytest.raises(Refused, match="6: "):
        h100.ask("nvmlDeviceGetHandleByUUID('GPU-none')")


def test_each_field_has_its_own_return_code_and_value_type(h100: Probe) -> None:
    h100.driver.gpu(0).put("field.251", "denied").put("field.186", "as double 70.5")
    h100.driver.gpu(0).put("field.82.0", "as ushort 40").put("temperature.margin", "error 999")
    h100.driver.write()
    fields = _field(h100, 185, 191, 251, (185, 1), (185, 2), 194, 82, 500)
    assert fields == [
        (0, 1, 68_920),
        (0, 3, 68_920),
        (4, 0, 0),
        (3, 0, 0),
        (0, 1, 32_980),
        (0, 5, 2**32 - 2),
        (0, 6, 40),
        (3, 0, 0),
    ]
    assert h100.device("nvmlDeviceGetFieldValues(h, [186])[0].value.dVal") == 70.5
    assert _refusal(h100, "nvmlDeviceGetMarginTemperature(h)") == 999


@pytest.mark.parametrize(
    "load",
    [
        Constant(250_000),
        Square(70_000, 700_000, period_ms=50, duty_percent=30),
        Square(70_000, 700_000, period_ms=20_000),
        Sine(300_000, 200_000, period_ms=1_700),
        Ramp(70_000, 700_000, duration_ms=30_000),
        Steps(((100, 70_000), (250, 400_000), (17, 690_000))),
    ],
    ids=str,
)
def test_the_energy_counter_is_the_integral_of_the_load(h100: Probe, load: Curve) -> None:
    h100.driver.gpu(0).put("load", load).put("energy", "integral load")
    for at_ns in (0, 1, 33_333_333, SECOND_NS, 59 * SECOND_NS + 7, 86_400 * SECOND_NS):
        h100.driver.at(at_ns)
        truth_mj = load.integral(at_ns / SECOND_NS)
        assert h100.device(ENERGY) == pytest.approx(truth_mj, abs=1)


STEPS = st.lists(
    st.tuples(st.integers(1, 5_000), st.integers(0, 1_400_000)), min_size=1, max_size=9
)
SHAPES = st.one_of(
    st.builds(Constant, st.integers(0, 1_400_000)),
    st.builds(
        Square,
        st.integers(0, 200_000),
        st.integers(0, 1_400_000),
        period_ms=st.integers(1, 60_000),
        duty_percent=st.integers(0, 100),
    ),
    st.builds(
        Sine,
        st.integers(200_000, 700_000),
        st.integers(0, 200_000),
        period_ms=st.integers(1, 60_000),
    ),
    st.builds(
        Ramp,
        st.integers(0, 1_400_000),
        st.integers(0, 1_400_000),
        duration_ms=st.integers(1, 60_000),
    ),
    st.lists(
        st.tuples(st.integers(1, 5_000), st.integers(0, 1_400_000)), min_size=1, max_size=9
    ).map(lambda steps: Steps(tuple(steps))),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(load=SHAPES, at_us=st.integers(0, 3_600_000_000))
def test_energy_is_within_a_millijoule_of_the_truth_for_any_shape_at_any_time(
    h100: Probe, load: Curve, at_us: int
) -> None:
    h100.driver.gpu(0).put("load", load).put("energy", "integral load")
    h100.driver.at(at_us * 1000)
    assert h100.device(ENERGY) == pytest.approx(load.integral(at_us / 1e6), abs=1)


def test_a_load_that_changes_keeps_the_energy_of_its_past(h100: Probe) -> None:
    gpu = h100.driver.gpu(0).put("load", 100_000).put("energy", "integral load")
    gpu.then(10 * SECOND_NS, "load", Square(0, 600_000, period_ms=1000))
    gpu.then(20 * SECOND_NS, "load", 50_000)
    h100.driver.at(5 * SECOND_NS)
    assert h100.device(ENERGY) == 500_000
    h100.driver.at(24 * SECOND_NS)
    assert h100.device(ENERGY) == 1_000_000 + 3_000_000 + 200_000


def test_counters_can_start_anew_freeze_and_jump(h100: Probe) -> None:
    gpu = h100.driver.gpu(0).put("load", 100_000).put("energy", "integral load")
    gpu.then(10 * SECOND_NS, "energy", "integral load")
    gpu.then(20 * SECOND_NS, "energy", 1_000_000)
    gpu.then(30 * SECOND_NS, "energy", "integral load 9000000")
    seen = []
    for second in (9, 11, 21, 29, 31):
        h100.driver.at(second * SECOND_NS)
        seen.append(h100.device(ENERGY))
    assert seen == [900_000, 100_000, 1_000_000, 1_000_000, 9_100_000]


def test_counters_of_bytes_and_of_throttling_grow_and_those_of_32_bits_wrap(h100: Probe) -> None:
    gpu = h100.driver.gpu(0).put("pcie.tx_bytes", "rate 2e9").put("nvlink.data_tx_kib", "rate 5e7")
    gpu.put("violation.hw_thermal", "rate 2.5e8 7").put("event_reasons", 0x40)
    h100.driver.at(3 * SECOND_NS)
    assert _field(h100, 197, (138, 0xFFFF_FFFF), 270) == [
        (0, 1, 6_000_000_000 % 2**32),
        (0, 3, 150_000_000),
        (0, 3, 750_000_007),
    ]
    assert h100.device("nvmlDeviceGetCurrentClocksEventReasons(h)") == 0x40


def test_fans_turn_where_a_board_has_them(h100: Probe) -> None:
    h100.driver.gpu(0).put("fans", 2).put("fan.0", 30).put("fan.1", 45).put("fan_rpm.0", 1500)
    h100.driver.write()
    assert h100.device("[nvmlDeviceGetFanSpeed_v2(h, fan) for fan in range(2)]") == [30, 45]
    assert h100.device("nvmlDeviceGetFanSpeedRPM(h)") == 1500
    assert _refusal(h100, "nvmlDeviceGetFanSpeed_v2(h, 2)") == 3
    assert _refusal(h100, "nvmlDeviceGetFanSpeed(h)", 1) == 3


def test_a_sensor_sees_only_its_window_and_only_every_period(h100: Probe) -> None:
    h100.driver.gpu(0).put("load", Square(100_000, 500_000, period_ms=100, duty_percent=75))
    seen = set()
    for at_ms in range(2000, 2100, 7):
        h100.driver.at(at_ms * 1_000_000)
        (average, instant) = _field(h100, 185, 186)
        seen.add((average[2], instant[2]))
    # The last quarter of each period is the low one: the window never sees the high three quarters.
    assert seen == {(400_000, 100_000)}


def test_samples_of_the_past_are_the_curve_in_the_past(h100: Probe) -> None:
    h100.driver.gpu(0).put("power", "ramp 0 100000 10000")
    h100.driver.at(5 * SECOND_NS)
    samples = "[(s.timeStamp, s.sampleValue.uiVal) for s in nvmlDeviceGetSamples(h, 0, {})[1]]"
    found = h100.device(samples.format(0))
    assert isinstance(found, list)
    assert [milliwatts for _, milliwatts in found[-3:]] == [48_000, 49_000, 50_000]
    assert h100.device(samples.format(found[-2][0])) == found[-1:]


def test_a_change_of_the_scenario_is_seen_by_the_next_call(h100: Probe) -> None:
    for watts in (100_000, 200_000, 100_000):
        h100.driver.gpu(0).put("power", watts)
        h100.driver.write()
        assert h100.device(POWER) == watts


def test_a_call_that_hangs_holds_up_no_other_and_goes_on_when_released(h100: Probe) -> None:
    h100.driver.gpu(0).put("power", 123_000).hang("nvmlDeviceGetPowerUsage")
    h100.driver.write()
    h100.begin("hanging", POWER)
    called = [POWER.partition("(")[0], "0"]
    assert eventually(
        lambda: any([n.function, n.device] == called for n in h100.driver.calls()),
        within_s=PATIENCE_S,
    )
    assert h100.device(POWER, 1) == 68_920
    assert h100.device("nvmlDeviceGetTemperature(h, 0)") == 29
    assert h100.ended("hanging") is None
    h100.driver.gpu(0).heal()
    h100.driver.write()
    assert eventually(lambda: h100.ended("hanging") is not None, within_s=PATIENCE_S)
    assert h100.ended("hanging") == {"value": 123_000}


def test_errors_come_by_function_by_gpu_and_for_the_first_calls_only(h100: Probe) -> None:
    h100.driver.gpu(0).fail("nvmlDeviceGetPowerUsage", 999, first=2)
    h100.driver.gpu(1).fail("*", 4)
    h100.driver.write()
    assert [_refusal(h100, POWER), _refusal(h100, POWER)] == [999, 999]
    assert h100.device(POWER) == 68_920
    assert _refusal(h100, "nvmlDeviceGetSerial(h)", 1) == 4
    h100.driver.gpu(1).heal()
    h100.driver.driver.fail("nvmlDeviceGetCount", 27)
    h100.driver.write()
    with pytest.raises(Refused, match="27: "):
        h100.ask("nvmlDeviceGetCount()")


def test_a_delay_takes_its_time(h100: Probe) -> None:
    h100.driver.gpu(0).delay("nvmlDeviceGetPowerUsage", 30)
    h100.driver.write()
    begin_s = time.monotonic()
    assert h100.device(POWER) == 68_920
    assert time.monotonic() - begin_s >= 0.03


def test_a_crash_ends_the_program(h100: Probe) -> None:
    h100.driver.gpu(1).crash("nvmlDeviceGetSerial")
    h100.driver.write()
    assert h100.device("nvmlDeviceGetSerial(h)") == "1650000000000"
    with pytest.raises(EOFError):
        h100.device("nvmlDeviceGetSerial(h)", 1)
    with Probe(h100.driver) as fresh:
        assert fresh.ask("nvmlDeviceGetCount()") == 2


def test_a_lost_gpu_costs_itself_only_and_may_return(h100: Probe) -> None:
    assert h100.device(POWER) == 68_920
    h100.driver.gpu(0).put("state", "lost")
    h100.driver.write()
    assert _refusal(h100, POWER) == 15
    assert _refusal(h100, "nvmlDeviceGetFieldValues(h, [83])") == 15
    with pytest.raises(Refused, match="15: "):
        h100.ask("nvmlDeviceGetHandleByIndex(0)")
    assert h100.device(POWER, 1) == 68_920
    h100.driver.gpu(0).put("state", 16)
    h100.driver.write()
    assert _refusal(h100, POWER) == 16
    h100.driver.gpu(0).drop("state")
    h100.driver.write()
    assert h100.device(POWER) == 68_920


def test_a_gpu_that_is_not_present_is_not_counted_and_its_handle_is_lost(h100: Probe) -> None:
    uuid = h100.device("nvmlDeviceGetUUID(h)", 1)
    h100.device("nvmlDeviceGetUUID(h)")
    h100.driver.gpu(0).put("present", 0)
    h100.driver.write()
    assert h100.ask("nvmlDeviceGetCount()") == 1
    assert h100.ask("nvmlDeviceGetUUID(nvmlDeviceGetHandleByIndex(0))") == uuid
    assert _refusal(h100, POWER) == 15


def test_a_new_driver_needs_a_new_process(h100: Probe) -> None:
    h100.device(POWER)
    h100.driver.driver.set(version="590.48.01")
    h100.driver.write()
    assert _refusal(h100, POWER) == 18
    h100.ask("nvmlShutdown()")
    with pytest.raises(Refused, match="18: "):
        h100.ask("nvmlInit()")
    with Probe(h100.driver) as fresh:
        assert fresh.ask("nvmlSystemGetDriverVersion()") == "590.48.01"


def test_the_driver_may_be_gone_and_may_be_reloaded(h100: Probe) -> None:
    h100.device(POWER)
    h100.driver.driver.set(status=9)
    h100.driver.write()
    assert _refusal(h100, POWER) == 9
    h100.driver.driver.set(status=0, generation=1, version="590.48.01", library_follows=1)
    h100.driver.write()
    h100.ask("nvmlShutdown()")
    h100.ask("nvmlInit()")
    assert h100.ask("nvmlSystemGetDriverVersion()") == "590.48.01"
    h100.driver.driver.set(generation=2)
    h100.driver.write()
    assert _refusal(h100, POWER) == 9


def test_nothing_is_answered_before_init_and_after_shutdown(h100: Probe) -> None:
    h100.device(POWER)
    h100.ask("nvmlInit()")
    h100.ask("nvmlShutdown()")
    assert h100.device(POWER) == 68_920
    h100.ask("nvmlShutdown()")
    assert _refusal(h100, POWER) == 1
    with pytest.raises(Refused, match="1: "):
        h100.ask("nvmlShutdown()")


def test_an_unknown_function_is_one_that_the_driver_does_not_have(h100: Probe) -> None:
    assert _refusal(h100, "nvmlDeviceGetGridLicensableFeatures(h)") == 13


def test_a_scenario_that_cannot_be_understood_is_no_driver(driver: FakeDriver) -> None:
    driver.gpu(0).put("load", "square 1 2")
    driver.write()
    with Probe(driver, start=False) as probe, pytest.raises(Refused, match="999: "):
        probe.ask("nvmlInit()")


def test_the_log_tells_who_called_what_on_which_gpu(h100: Probe) -> None:
    h100.device(POWER, 1)
    h100.driver.forget_calls()
    h100.device(POWER, 1)
    h100.begin("other", "nvmlDeviceGetSerial(h)", 1)
    assert eventually(lambda: len(h100.driver.calls()) == 2, within_s=PATIENCE_S)
    power, serial = h100.driver.calls()
    assert (power.function, power.device) == ("nvmlDeviceGetPowerUsage", "1")
    assert (serial.function, serial.device) == ("nvmlDeviceGetSerial", "1")
    assert power.pid == serial.pid
    assert power.thread != serial.thread


def test_many_threads_get_each_their_own_answer(h100: Probe) -> None:
    for thread in range(8):
        gpu = thread % 2
        question = f"[nvmlDeviceGetMinorNumber(h) for _ in range(300)] == [{gpu}] * 300"
        h100.begin(f"thread {thread}", question, gpu)
    for watts in range(20):
        h100.driver.gpu(0).put("power", watts)
        h100.driver.write()
    names = [f"thread {thread}" for thread in range(8)]
    assert eventually(lambda: all(h100.ended(name) for name in names), within_s=PATIENCE_S)
    assert [h100.ended(name) for name in names] == [{"value": True}] * 8
