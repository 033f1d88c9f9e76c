"""The cpu sources: busy time, memory, clocks and names, against files and against psutil."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.clock import SystemClock
from joulefloor.errors import Reason, SourceError
from joulefloor.host import Host
from joulefloor.processors import SHARED_NS, CpuClock, package_of_cpu
from joulefloor.sources import Site
from joulefloor.sources.cpu import CpuSource, FrequencySource, MemorySource, Settings, build
from stack.query import eventually
from tests.machine import Machine
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from joulefloor.model import Batch

PACKAGE_0 = ("cpu", "package-0", "busy")
NODE = ("node", "node", "busy")
TWO_SOCKETS = """joulefloor-host 1
file proc/stat
  cpu  0 0 0 0 0 0 0 0 0 0
  cpu0 100 10 20 900 5 3 7 50 30 10
  cpu1 200 0 0 900 0 0 0 0 0 0
  cpu2 400 0 0 900 0 0 0 0 0 0
  cpu10 600 0 0 900 0 0 0 0 0 0
  intr 1 2 3
file sys/devices/system/cpu/cpu0/topology/physical_package_id
  0
file sys/devices/system/cpu/cpu1/topology/physical_package_id
  1
file sys/devices/system/cpu/cpu2/topology/physical_package_id
  0
file sys/devices/system/cpu/cpu10/topology/physical_package_id
  1
file sys/devices/system/cpu/cpufreq/policy0/affected_cpus
  0
file sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq
  3000000
file sys/devices/system/cpu/cpufreq/policy1/affected_cpus
  1 10
file sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq
  800000
file sys/devices/system/cpu/cpufreq/policy2/affected_cpus
  2
file sys/devices/system/cpu/cpufreq/policy2/scaling_cur_freq
  1000000
"""
POLICY = "sys/devices/system/cpu/cpufreq/policy"


def values(batch: Batch) -> dict[tuple[str, ...], float]:
    return {reading.channel.labels: reading.value for reading in batch.readings}


def cpu(machine: Machine) -> CpuSource:
    return CpuSource(machine.host, machine.clock, Settings())


def memory(machine: Machine) -> MemorySource:
    return MemorySource(machine.host, machine.clock, Settings())


def frequency(machine: Machine) -> FrequencySource:
    return FrequencySource(machine.host, machine.clock, Settings())


@pytest.fixture
def two_sockets(tmp_path: Path) -> Machine:
    return Machine(tmp_path, text=TWO_SOCKETS)


@pytest.fixture
def vm(tmp_path: Path) -> Machine:
    return Machine(tmp_path, host_file="vm-cloud-xeon")


def test_busy_is_the_mean_over_a_packages_cpus_without_steal_guest_idle_and_iowait(
    two_sockets: Machine,
) -> None:
    found = values(cpu(two_sockets).read())
    assert found[PACKAGE_0] == pytest.approx((1.40 + 4.00) / 2)
    assert found["cpu", "package-1", "busy"] == pytest.approx((2.00 + 6.00) / 2)
    assert found[NODE] == pytest.approx((1.40 + 4.00 + 2.00 + 6.00) / 4)


def test_a_cpu_that_goes_offline_begins_new_channels_since_sums_cannot_be_compared(
    two_sockets: Machine,
) -> None:
    source = cpu(two_sockets)
    before = source.channels()
    assert source.channels() == before
    two_sockets.write(
        "proc/stat", "cpu  0 0 0 0 0 0 0 0\ncpu0 100 0 0 0 0 0 0 0\ncpu1 200 0 0 0 0 0 0 0\nintr 1"
    )
    batch = source.read()
    assert {reading.channel for reading in batch.readings}.isdisjoint(before)
    assert values(batch) == {PACKAGE_0: 1.0, ("cpu", "package-1", "busy"): 2.0, NODE: 1.5}


def test_a_whole_socket_that_goes_offline_has_no_series(two_sockets: Machine) -> None:
    source = cpu(two_sockets)
    source.read()
    two_sockets.write("proc/stat", "cpu0 100 0 0 0 0 0 0 0\ncpu2 200 0 0 0 0 0 0 0\nintr 1")
    assert values(source.read()) == {PACKAGE_0: 1.5, NODE: 1.5}


def test_names_come_from_cpuinfo_for_each_package(vm: Machine) -> None:
    found = {channel.labels for channel in cpu(vm).channels()}
    name = "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"
    assert ("cpu", "package-0", "GenuineIntel", name) in found


def test_without_topology_every_cpu_is_in_package_0(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file="vm-arm-container")
    found = values(cpu(machine).read())
    assert found == {
        PACKAGE_0: 2.0,
        NODE: 2.0,
        ("cpu", "package-0", "ARM", "Neoverse-N1"): 1.0,
    }


def test_a_package_id_of_minus_one_means_package_0(machine: Machine) -> None:
    machine.write("sys/devices/system/cpu/cpu3/topology/physical_package_id", -1)
    assert package_of_cpu(machine.host, "cpu3") == 0


@pytest.mark.parametrize("line", ["cpu0 1 2 3", "cpu0 1 2 3 4 5 -60 7 8", "cpu0 a b c d e f g h"])
def test_a_line_that_is_not_as_documented_is_garbled(machine: Machine, line: str) -> None:
    machine.write("proc/stat", f"cpu  1 2 3 4 5 6 7 8\n{line}\n")
    with pytest.raises(SourceError) as caught:
        cpu(machine).read()
    assert caught.value.reason is Reason.GARBLED


def test_a_thousand_cpus_are_all_counted(machine: Machine) -> None:
    lines = "".join(
        f"cpu{number} 100 0 0 {10**9} {10**9} 0 0 {10**9} 0 0\n" for number in range(1500)
    )
    machine.write(
        "proc/stat", f"cpu  0 0 0 0 0 0 0 0 0 0\n{lines}cpu1500 1601 0 0 0 0 0 0 0 0 0\nintr 1"
    )
    source = cpu(machine)
    for _ in range(2):
        assert values(source.read())[NODE] == pytest.approx((1500 + 16.01) / 1501)


def test_without_proc_the_sources_are_absent(machine: Machine) -> None:
    for source in build(Site(machine.host, machine.clock, Settings())):
        with pytest.raises(SourceError) as caught:
            source.channels()
        assert caught.value.reason is Reason.ABSENT
        source.close()
        source.close()


def test_clocks_can_be_switched_off(machine: Machine) -> None:
    sources = build(Site(machine.host, machine.clock, Settings(clocks=False)))
    assert [source.name for source in sources] == ["cpu", "memory"]


def test_memory_used_is_what_is_not_available(vm: Machine) -> None:
    found = values(memory(vm).read())
    assert found == {
        ("dram", "node", "used"): 4 * 2**30,
        ("dram", "node", "total"): 16 * 2**30,
    }


@pytest.mark.parametrize(
    "text",
    [
        "MemTotal: 100 kB\nMemFree: 50 kB",
        "MemTotal: 100 kB\nMemAvailable: 200 kB",
        "MemTotal: 100 MB\nMemAvailable: 20 kB",
        "MemTotal: -100 kB\nMemAvailable: -200 kB",
    ],
)
def test_memory_that_does_not_add_up_is_garbled(machine: Machine, text: str) -> None:
    machine.write("proc/meminfo", text)
    with pytest.raises(SourceError) as caught:
        memory(machine).read()
    assert caught.value.reason is Reason.GARBLED


def test_clocks_are_weighted_by_the_cpus_that_share_them(two_sockets: Machine) -> None:
    found = values(frequency(two_sockets).read())
    assert found == {
        ("cpu", "package-0", "mean"): 2.0e9,
        ("cpu", "package-0", "max"): 3.0e9,
        ("cpu", "package-1", "mean"): 0.8e9,
        ("cpu", "package-1", "max"): 0.8e9,
    }


def test_one_unreadable_clock_is_one_fault_and_the_others_stand(two_sockets: Machine) -> None:
    source = frequency(two_sockets)
    before = source.channels()
    two_sockets.write(f"{POLICY}2/scaling_cur_freq", "<unknown>")
    two_sockets.write(f"{POLICY}1/scaling_cur_freq", "soon")
    batch = source.read()
    assert values(batch) == {
        ("cpu", "package-0", "mean"): 3.0e9,
        ("cpu", "package-0", "max"): 3.0e9,
    }
    assert {fault.reason for fault in batch.faults} == {Reason.UNSUPPORTED, Reason.GARBLED}
    two_sockets.write(f"{POLICY}1/scaling_cur_freq", "900000")
    again = {reading.channel for reading in source.read().readings}
    assert again == set(before)


def test_a_policy_without_cpus_online_is_left_out(two_sockets: Machine) -> None:
    source = frequency(two_sockets)
    source.read()
    two_sockets.write(f"{POLICY}1/affected_cpus", "")
    two_sockets.clock.advance(61)
    assert {labels[1] for labels in values(source.read())} == {"package-0"}


def test_busy_seconds_of_this_machine_agree_with_psutil() -> None:
    source = CpuSource(Host(Path("/")), SystemClock(), Settings())
    before = psutil.cpu_times(percpu=True)
    found = values(source.read())
    after = psutil.cpu_times(percpu=True)
    packages: dict[int, list[tuple[float, float]]] = {}
    for number, times in enumerate(zip(before, after, strict=True)):
        low, high = (t.user + t.nice + t.system + t.irq + t.softirq for t in times)
        package = package_of_cpu(Host(Path("/")), f"cpu{number}")
        packages.setdefault(package, []).append((low, high))
    for package, pairs in packages.items():
        mean = found["cpu", f"package-{package}", "busy"]
        low = sum(pair[0] for pair in pairs) / len(pairs)
        high = sum(pair[1] for pair in pairs) / len(pairs)
        assert low - 1e-6 <= mean <= high + 1e-6


def test_memory_of_this_machine_agrees_with_psutil() -> None:
    source = MemorySource(Host(Path("/")), SystemClock(), Settings())

    def agrees() -> bool:
        found, truth = values(source.read()), psutil.virtual_memory()
        used = pytest.approx(truth.total - truth.available, abs=1e8)
        return found == {("dram", "node", "total"): truth.total, ("dram", "node", "used"): used}

    # Between the two reads others may take memory or give it back.
    assert eventually(agrees, within_s=PATIENCE_S)


words = st.sampled_from(
    [
        *(
            b"cpu",
            b"cpu0",
            b"cpu7",
            b" ",
            b"\n",
            b"12",
            b"-1",
            b"9" * 30,
            b"1_0",
            b"kB",
            b"\xff\x00",
        ),
        *(b"MemTotal:", b"MemAvailable:", b"<unknown>", b"vendor_id\t: x\n", b"0x41"),
        b"model\t: 9\n",
    ]
)
contents = st.lists(words, max_size=24).map(b"".join) | st.binary(max_size=80)
FILES = [
    "proc/stat",
    "proc/meminfo",
    "proc/cpuinfo",
    f"{POLICY}0/affected_cpus",
    f"{POLICY}0/scaling_cur_freq",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id",
]


@pytest.fixture(scope="module")
def any_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("cpu"), text=TWO_SOCKETS)


@given(path=st.sampled_from(FILES), content=contents)
def test_any_bytes_give_readings_faults_or_a_source_error(
    any_machine: Machine, path: str, content: bytes
) -> None:
    any_machine.write(path, content)
    for source in build(Site(any_machine.host, any_machine.clock, Settings())):
        try:
            batch = source.read()
        except SourceError:
            continue
        finally:
            source.close()
        for reading in batch.readings:
            assert reading.value >= 0
            assert reading.channel.metric in catalogue.METRICS


def test_sources_of_one_tick_share_one_read_of_the_times(two_sockets: Machine) -> None:
    """What was just read for one source serves another, once, and only for a moment."""
    times = two_sockets.host.shared(CpuClock)
    assert two_sockets.host.shared(CpuClock) is times
    first = times.read("cpu", 10**9)
    two_sockets.write("proc/stat", "cpu0 500 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nintr 1")
    assert times.read("model", 10**9 + SHARED_NS - 1) is first
    again = times.read("cpu", 10**9 + SHARED_NS - 1)
    assert [package.busy_s for package in again.packages] == [5.0, 0.0]
    assert again.at_ns == 10**9 + SHARED_NS - 1
    assert times.read("model", again.at_ns + SHARED_NS) is not again


def test_times_without_a_line_behind_them_are_read(machine: Machine) -> None:
    machine.write("proc/stat", "cpu  1 0 0 0 0 0 0 0\ncpu0 100 0 0 0 0 0 0 0\nbtime 1790000000")
    source = cpu(machine)
    for _ in range(2):
        assert values(source.read())[NODE] == 1.0
