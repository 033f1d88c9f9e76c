"""The fake driver's moving parts: MIG, processes, events, metrics between samples, boards."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stack.query import eventually
from tests.nvml.curves import Square
from tests.nvml.probe import ROOT, Probe, Refused
from tests.nvml.scenario import PROFILES, FakeDriver, Instance
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

SECOND_NS = 1_000_000_000
GIB = 1 << 30
SMALL = Instance(7, "1g.10gb", 1, 16, 10 * GIB, "MIG-00000000-0000-4000-8000-000000000007", 50.0)
LARGE = Instance(1, "3g.40gb", 3, 60, 40 * GIB, "MIG-00000000-0000-4000-8000-000000000001")
INSTANCE = "nvmlDeviceGetMigDeviceHandleByIndex(h, {slot})"
BOARDS = {
    "t4": {"fields": [3, 0, 3, 3, 3], "limit": 70_000, "gpm": 0, "mig": 3},
    "a100-sxm4-80gb": {"fields": [3, 0, 3, 3, 0], "limit": 400_000, "gpm": 0, "mig": 0},
    "h100-sxm5": {"fields": [0, 0, 0, 3, 0], "limit": 700_000, "gpm": 1, "mig": 0},
    "h200": {"fields": [0, 0, 0, 3, 0], "limit": 700_000, "gpm": 1, "mig": 0},
    "b200": {"fields": [0, 0, 0, 3, 0], "limit": 1_000_000, "gpm": 1, "mig": 0},
    "gb200": {"fields": [0, 0, 0, 0, 0], "limit": 1_200_000, "gpm": 1, "mig": 0},
    "l40s": {"fields": [0, 0, 3, 3, 3], "limit": 350_000, "gpm": 0, "mig": 3},
}
"""Codes of power average, instant, memory's average, module's instant, memory temperature."""


def _instance(probe: Probe, question: str, slot: int = 0) -> object:
    return probe.device(question.replace("h)", INSTANCE.format(slot=slot) + ")", 1))


def test_instances_come_go_and_come_again_with_the_same_id(h100: Probe) -> None:
    h100.driver.carve(0, SMALL, LARGE)
    h100.driver.write()
    assert h100.device("nvmlDeviceGetMigMode(h)") == [1, 1]
    assert h100.device("nvmlDeviceGetMaxMigDeviceCount(h)") == 7
    assert _instance(h100, "nvmlDeviceGetUUID(h)", 1) == LARGE.uuid
    assert _instance(h100, "nvmlDeviceGetName(h)") == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert _instance(h100, "nvmlDeviceGetGpuInstanceId(h)") == 7
    assert _instance(h100, "nvmlDeviceGetComputeInstanceId(h)") == 0
    assert _instance(h100, "nvmlDeviceIsMigDeviceHandle(h)") == 1
    assert _instance(h100, "nvmlDeviceGetMemoryInfo(h)") == {
        "total": 10 * GIB,
        "used": 0,
        "free": 10 * GIB,
    }
    attributes = _instance(h100, "nvmlDeviceGetAttributes(h)", 1)
    assert isinstance(attributes, dict)
    assert attributes["multiprocessorCount"] == 60
    assert attributes["gpuInstanceSliceCount"] == 3
    assert attributes["memorySizeMB"] == 40 * 1024
    h100.device(f"memory.update(old={INSTANCE.format(slot=0)})")
    h100.driver.carve(0, LARGE._replace(gpu_instance=7, uuid="MIG-0000-new"))
    h100.driver.write()
    assert _instance(h100, "nvmlDeviceGetGpuInstanceId(h)") == 7
    with pytest.raises(Refused, match="6: "):
        h100.ask("nvmlDeviceGetUUID(memory['old'])")
    h100.driver.uncarve(0)
    h100.driver.write()
    with pytest.raises(Refused, match="6: "):
        h100.device(INSTANCE.format(slot=0))


def test_an_instance_knows_its_gpu_and_has_no_power_of_its_own(h100: Probe) -> None:
    h100.driver.carve(0, SMALL)
    h100.driver.write()
    parent = "nvmlDeviceGetDeviceHandleFromMigDeviceHandle(h)"
    assert _instance(h100, f"nvmlDeviceGetUUID({parent})") == h100.device("nvmlDeviceGetUUID(h)")
    for question in ("nvmlDeviceGetPowerUsage(h)", "nvmlDeviceGetTotalEnergyConsumption(h)"):
        with pytest.raises(Refused, match="3: "):
            _instance(h100, question)
    with pytest.raises(Refused, match="3: "):
        h100.device("nvmlDeviceGetUtilizationRates(h)")


def test_gpu_instances_and_compute_instances_have_handles_of_their_own(h100: Probe) -> None:
    h100.driver.carve(0, SMALL, LARGE)
    h100.driver.write()
    instance = "nvmlDeviceGetGpuInstanceById(h, 1)"
    info = h100.device(f"nvmlGpuInstanceGetInfo({instance})")
    assert isinstance(info, dict)
    assert (info["id"], info["profileId"]) == (1, 3)
    compute = f"nvmlGpuInstanceGetComputeInstanceById({instance}, 0)"
    found = h100.device(f"nvmlComputeInstanceGetInfo({compute})")
    assert isinstance(found, dict)
    assert found["placement"]["size"] == 3
    with pytest.raises(Refused, match="6: "):
        h100.device("nvmlDeviceGetGpuInstanceById(h, 5)")


def test_processes_have_memory_and_are_those_of_the_instance(h100: Probe) -> None:
    gpu = h100.driver.gpu(0)
    gpu.process(100, GIB, 30, 10).process(101, 2 * GIB, 60, "mps").process(102, GIB, "graphics")
    h100.driver.write()
    running = "[(p.pid, p.usedGpuMemory) for p in {}(h)]"
    assert h100.device(running.format("nvmlDeviceGetComputeRunningProcesses")) == [[100, GIB]]
    mps = h100.device(running.format("nvmlDeviceGetMPSComputeRunningProcesses"))
    assert mps == [[101, 2 * GIB]]
    graphics = h100.device(running.format("nvmlDeviceGetGraphicsRunningProcesses"))
    assert graphics == [[102, GIB]]
    gpu.process(103, GIB, "gi=7", "ci=0")
    h100.driver.carve(0, LARGE, SMALL)
    h100.driver.write()
    inside = "[p.pid for p in nvmlDeviceGetComputeRunningProcesses(h)]"
    assert _instance(h100, inside, 1) == [103]
    assert _instance(h100, inside) == []
    h100.driver.instance(0, 0).process(104, GIB)
    h100.driver.write()
    assert _instance(h100, inside) == [104]
    whole = "sorted((p.pid, p.gpuInstanceId) for p in nvmlDeviceGetComputeRunningProcesses(h))"
    assert h100.device(whole) == [[100, 2**32 - 1], [103, 7], [104, 1]]


def test_processes_are_sampled_once_a_second_and_not_twice(h100: Probe) -> None:
    h100.driver.gpu(0).process(100, GIB, 30, 10).process(101, GIB)
    h100.driver.at(5_300_000_000)
    question = "[(s.pid, s.smUtil, s.timeStamp) for s in nvmlDeviceGetProcessUtilization(h, {})]"
    samples = h100.device(question.format(0))
    assert samples == [[100, 30, 1_800_000_005_000_000]]
    with pytest.raises(Refused, match="6: "):
        h100.device(question.format(1_800_000_005_000_000))
    h100.driver.at(6_000_000_000)
    assert h100.device(question.format(1_800_000_005_000_000)) != []
    info = "[(s.pid, s.smUtil) for s in nvmlDeviceGetProcessesUtilizationInfo(h, 0)]"
    assert h100.device(info) == [[100, 30]]


def test_an_event_set_gets_each_event_once_and_none_of_before(h100: Probe) -> None:
    h100.driver.gpu(0).event(1, 8, 13)
    h100.driver.write()
    h100.ask("memory.update(set=nvmlEventSetCreate())")
    h100.device("nvmlDeviceRegisterEvents(h, 8, memory['set'])")
    wait = "(lambda e: (e.eventType, e.eventData))(nvmlEventSetWait(memory['set'], {}))"
    with pytest.raises(Refused, match="10: "):
        h100.ask(wait.format(0))
    h100.begin("waiting", wait.format(10_000))
    h100.driver.gpu(0).event(2, 8, 79)
    h100.driver.write()
    assert eventually(lambda: h100.ended("waiting") is not None, within_s=PATIENCE_S)
    assert h100.ended("waiting") == {"value": [8, 79]}
    with pytest.raises(Refused, match="10: "):
        h100.ask(wait.format(0))


def test_metrics_between_samples_are_the_mean_of_the_curve(h100: Probe) -> None:
    gpu = h100.driver.gpu(0).work(1500, {2: 100.0, 7: 40.0})
    gpu.put("gpm.10", Square(0, 80, period_ms=1000, duty_percent=25)).put("gpm.3", "denied")
    samples = []
    for second in (10, 12):
        h100.driver.at(second * SECOND_NS)
        name = f"at{second}"
        h100.ask(f"memory.update({name}=nvmlGpmSampleAlloc())")
        h100.device(f"nvmlGpmSampleGet(h, memory[{name!r}])")
        samples.append(f"memory[{name!r}]")
    first, second_sample = samples
    metrics = h100.ask(f"gpm_between({first}, {second_sample}, 2, 7, 10, 3, 99, 248, 252)")
    assert metrics == [
        [0, 100.0],
        [0, pytest.approx(40.0)],
        [0, pytest.approx(20.0)],
        [4, 0.0],
        [3, 0.0],
        [0, pytest.approx(12 * 1.5e9)],
        [0, pytest.approx(12 * 1.5e9 * 0.4)],
    ]
    with pytest.raises(Refused, match="2: "):
        h100.ask(f"gpm_between({second_sample}, {first}, 2)")
    gpu.fail("nvmlGpmMetricsGet", 27)
    h100.driver.write()
    with pytest.raises(Refused, match="27: "):
        h100.ask(f"gpm_between({first}, {second_sample}, 2)")


def test_samples_of_before_a_shutdown_are_refused_and_can_be_freed(h100: Probe) -> None:
    for name in ("a", "b"):
        h100.ask(f"memory.update({name}=nvmlGpmSampleAlloc())")
    h100.device("nvmlGpmSampleGet(h, memory['a'])")
    h100.ask("nvmlShutdown()")
    h100.ask("nvmlInit()")
    h100.driver.at(2 * SECOND_NS)
    h100.device("nvmlGpmSampleGet(h, memory['b'])")
    with pytest.raises(Refused, match="2: "):
        h100.ask("gpm_between(memory['a'], memory['b'], 1)")
    h100.ask("nvmlGpmSampleFree(memory['a'])")


def test_an_instances_metrics_are_its_own(h100: Probe) -> None:
    h100.driver.carve(0, SMALL, LARGE)
    for second in (1, 2):
        h100.driver.at(second * SECOND_NS)
        h100.ask(f"memory.update(s{second}=nvmlGpmSampleAlloc())")
        h100.device(f"nvmlGpmMigSampleGet(h, 7, memory['s{second}'])")
    assert h100.ask("gpm_between(memory['s1'], memory['s2'], 1)") == [[0, 50.0]]
    with pytest.raises(Refused, match="6: "):
        h100.device("nvmlGpmMigSampleGet(h, 5, memory['s1'])")


def test_two_gpus_of_a_board_share_serial_and_module(driver: FakeDriver) -> None:
    for number in range(4):
        driver.gpu(number, "gb200")
    driver.gpu(1).put("load", 1_000_000)
    driver.at(10 * SECOND_NS)
    module = "[v.value.uiVal for v in nvmlDeviceGetFieldValues(h, [(185, 1), (186, 1), (188, 1)])]"
    with Probe(driver) as probe:
        serials = [probe.device("nvmlDeviceGetSerial(h)", number) for number in range(4)]
        assert serials[0] == serials[1] != serials[2] == serials[3]
        expected_mw = 165_930 + 1_000_000 + 135_310
        assert probe.device(module, 0) == [expected_mw, expected_mw, 2_500_000]
        assert probe.device(module, 1) == probe.device(module, 0)
        assert probe.device(module, 2) == [467_170, 467_170, 2_500_000]
        pair = "nvmlDeviceOnSameBoard(h, nvmlDeviceGetHandleByIndex({}))"
        assert [probe.device(pair.format(number)) for number in (1, 2)] == [True, False]


@pytest.mark.parametrize("profile", BOARDS)
def test_a_profile_supports_what_its_board_does(driver: FakeDriver, profile: str) -> None:
    for number in range(2):
        driver.gpu(number, profile)
    driver.write()
    board = BOARDS[profile]
    question = (
        "[v.nvmlReturn for v in nvmlDeviceGetFieldValues(h, [185, 186, (185, 2), (186, 1), 82])]"
    )
    with Probe(driver) as probe:
        assert probe.device(question) == board["fields"]
        assert probe.device("nvmlDeviceGetEnforcedPowerLimit(h)") == board["limit"]
        assert probe.device("nvmlGpmQueryDeviceSupport(h).isSupportedDevice") == board["gpm"]
        assert probe.device("nvmlDeviceGetNumFans(h)") == 0
        assert probe.device("nvmlDeviceGetTotalEnergyConsumption(h)", 1) == probe.device(
            "nvmlDeviceGetTotalEnergyConsumption(h)"
        )
        try:
            code = probe.device("nvmlDeviceGetMigMode(h)") and 0
        except Refused as refused:
            code = refused.code
        assert code == board["mig"]


def test_every_profile_says_where_it_is_from() -> None:
    files = sorted(PROFILES.glob("*.gpu"))
    assert {path.stem for path in files} == {*BOARDS, "board", "hopper"}
    for path in files:
        assert path.read_text().startswith("# ")


def test_any_program_can_be_given_a_driver_from_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.nvml", str(tmp_path), "--board", "l40s"]
    command += ["--gpus", "3", "--load", "square 70000 350000 1000"]
    told = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    name, _, folder = told.stdout.strip().partition("=")
    program = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetCount())"
    counted = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, name: folder},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert counted.stdout == "3\n"
