"""RAPL: what each powercap zone means, and how each way of not having one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import COMPONENT_ENERGY, COMPONENT_POWER_LIMIT, NODE_ENERGY, PART_ENERGY
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FAULT_RESCAN_SECONDS
from joulefloor.model import Measures
from joulefloor.sources import RESCAN_SECONDS, Site, rapl
from tests.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from joulefloor.model import Batch, Channel
    from joulefloor.sources import Source

INTEL = "sys/devices/virtual/powercap/intel-rapl"


def counters(machine: Machine) -> Source:
    return rapl.build(Site(machine.host, machine.clock, rapl.Settings()))[0]


def limits(machine: Machine) -> Source:
    return rapl.build(Site(machine.host, machine.clock, rapl.Settings()))[1]


def values(batch: Batch) -> dict[tuple[str, ...], float]:
    return {reading.channel.labels: reading.value for reading in batch.readings}


def channel(source: Source, *labels: str) -> Channel:
    return next(found for found in source.channels() if found.labels[: len(labels)] == labels)


@pytest.fixture
def host(tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path, host_file=name)


def test_every_zone_of_an_intel_server_is_named_after_its_package(
    host: Callable[[str], Machine],
) -> None:
    batch = counters(host("intel-2s")).read()
    assert not batch.faults
    assert values(batch) == {
        ("cpu", "package-0", "rapl", "measured"): 81_000.0,
        ("cpu", "package-1", "rapl", "measured"): 262_143.0,
        ("dram", "package-0", "rapl", "measured"): 22_000.0,
        ("dram", "package-1", "rapl", "measured"): 19_000.0,
        ("cpu", "package-0", "core", "rapl", "measured"): 60_000.0,
        ("cpu", "package-1", "core", "rapl", "measured"): 58_000.0,
        ("cpu", "package-0", "rapl-mmio", "measured"): 81_000.0,
        ("dram", "package-0", "rapl-mmio", "measured"): 22_000.0,
    }
    assert {reading.channel.metric for reading in batch.readings} == {COMPONENT_ENERGY, PART_ENERGY}
    assert {reading.channel.measures for reading in batch.readings} == {Measures.ENERGY}


def test_the_range_of_each_counter_is_its_own(host: Callable[[str], Machine]) -> None:
    source = counters(host("intel-2s"))
    assert channel(source, "cpu", "package-0", "rapl").wraps_at_joules == 262_143.328850
    assert channel(source, "dram", "package-0", "rapl").wraps_at_joules == 65_712.999613


def test_the_bound_on_power_comes_from_the_greatest_stated_limit(
    host: Callable[[str], Machine],
) -> None:
    source = counters(host("intel-2s"))
    assert channel(source, "cpu", "package-0", "rapl").max_watts == 3 * 376.0
    assert channel(source, "dram", "package-0", "rapl").max_watts == 3 * 41.25
    assert channel(source, "dram", "package-0", "rapl-mmio").max_watts == 500.0


@pytest.mark.parametrize(
    ("stated", "bound"), [(0, 2_000.0), (-5, 2_000.0), (1, 100.0), (10**18, 2_000.0)]
)
def test_a_limit_that_makes_no_sense_does_not_make_the_bound(
    host: Callable[[str], Machine], stated: int, bound: float
) -> None:
    machine = host("rapl-denied")
    for what in ("power_limit", "max_power"):
        machine.write(f"{INTEL}/intel-rapl:0/constraint_0_{what}_uw", stated)
    assert channel(counters(machine), "cpu", "package-0").max_watts == bound


def test_psys_is_a_node_meter_and_no_component(host: Callable[[str], Machine]) -> None:
    source = counters(host("laptop-psys"))
    psys = channel(source, "rapl-psys")
    assert psys.metric is NODE_ENERGY
    assert psys.max_watts == 10_000.0
    assert values(source.read())["rapl-psys", "measured"] == 31_000.0
    assert channel(source, "cpu", "package-0", "uncore").metric is PART_ENERGY


def test_zones_over_tpmi_are_known_by_their_package_and_not_by_their_number(
    host: Callable[[str], Machine],
) -> None:
    machine = host("intel-tpmi")
    source = counters(machine)
    batch = source.read()
    assert not batch.faults
    assert values(batch) == {
        ("cpu", "package-0", "rapl", "measured"): 190_462.097,
        ("cpu", "package-1", "rapl", "measured"): 243_075.195,
        ("dram", "package-0", "rapl", "measured"): 6_253.54,
        ("dram", "package-1", "rapl", "measured"): 5_977.905,
        ("rapl-psys", "measured"): 60_293_987.0,
    }
    assert channel(source, "rapl-psys").wraps_at_joules == 4_294_967_295.0
    assert channel(source, "dram", "package-0").wraps_at_joules == 262_143.32885
    assert channel(source, "cpu", "package-0").max_watts == 2_000.0
    assert values(limits(machine).read())["cpu", "package-1", "enforced"] == 350.0


def test_dies_of_one_package_are_told_apart_and_may_be_twins(
    host: Callable[[str], Machine],
) -> None:
    channels = counters(host("amd-zen2-dies")).channels()
    components = [found for found in channels if found.metric is COMPONENT_ENERGY]
    assert [found.labels[1] for found in components] == ["package-0-die-0", "package-0-die-1"]
    assert len({found.twins for found in components}) == 1
    assert components[0].twins
    assert not any(found.twins for found in channels if found.metric is PART_ENERGY)


def test_packages_of_their_own_have_no_twins(host: Callable[[str], Machine]) -> None:
    assert not any(found.twins for found in counters(host("intel-2s")).channels())


def test_amd_counters_have_their_short_range_and_no_limits(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-epyc")
    assert channel(counters(machine), "cpu", "package-1").wraps_at_joules == 65_532.610987
    with pytest.raises(SourceError, match="no zone states a power limit") as caught:
        limits(machine).channels()
    assert caught.value.reason is Reason.ABSENT


def test_foreign_control_types_and_a_missing_range_do_no_harm(
    host: Callable[[str], Machine],
) -> None:
    source = counters(host("foreign-powercap"))
    batch = source.read()
    assert not batch.faults
    assert values(batch) == {
        ("cpu", "package-0", "rapl", "measured"): 5_000.0,
        ("cpu", "package-0", "core", "rapl", "measured"): 4_000.0,
        ("cpu", "package-0", "uncore", "rapl", "measured"): 300.0,
        ("dram", "package-0", "rapl", "measured"): 900.0,
    }
    assert channel(source, "cpu", "package-0", "rapl").wraps_at_joules is None


def test_counters_that_only_root_may_read_are_denied_with_the_mend(
    host: Callable[[str], Machine],
) -> None:
    machine = host("rapl-denied")
    source = counters(machine)
    with machine.as_nobody():
        assert len(source.channels()) == 2
        with pytest.raises(SourceError) as caught:
            source.read()
    assert caught.value.reason is Reason.DENIED
    assert caught.value.detail.startswith("sys/class/powercap/intel-rapl:0/energy_uj: only root")
    assert "run as uid 0" in caught.value.detail


def test_one_zone_that_may_not_be_read_costs_only_itself(host: Callable[[str], Machine]) -> None:
    machine = host("rapl-denied")
    (machine.root / INTEL / "intel-rapl:0/energy_uj").chmod(0o444)
    source = counters(machine)
    with machine.as_nobody():
        batch = source.read()
    assert values(batch) == {("cpu", "package-0", "rapl", "measured"): 5_000.0}
    (fault,) = batch.faults
    assert fault.channel is channel(source, "dram")
    assert fault.reason is Reason.DENIED
    assert "run as uid 0" in fault.detail


def test_a_garbled_zone_costs_only_itself_and_comes_back(host: Callable[[str], Machine]) -> None:
    machine = host("amd-epyc")
    source = counters(machine)
    machine.write(f"{INTEL}/intel-rapl:1/energy_uj", "")
    batch = source.read()
    assert len(batch.readings) == 3
    (fault,) = batch.faults
    assert fault.reason is Reason.GARBLED
    machine.write(f"{INTEL}/intel-rapl:1/energy_uj", 60_000_000_000)
    assert values(source.read())["cpu", "package-1", "rapl", "measured"] == 60_000.0


def test_a_machine_without_rapl_says_so_and_why(host: Callable[[str], Machine]) -> None:
    for source in (counters(host("bare-vm")), limits(host("bare-vm"))):
        with pytest.raises(SourceError, match="virtual machine") as caught:
            source.channels()
        assert caught.value.reason is Reason.ABSENT


def test_a_masked_folder_is_told_from_a_missing_one(host: Callable[[str], Machine]) -> None:
    source = counters(host("masked-container"))
    with pytest.raises(SourceError, match=r"--path\.rootfs") as caught:
        source.read()
    assert caught.value.reason is Reason.ABSENT
    assert "mask" in caught.value.detail


def test_a_dangling_class_is_masked_even_if_the_devices_are_hidden(machine: Machine) -> None:
    folder = machine.root / "sys/class/powercap"
    folder.mkdir(parents=True)
    (folder / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    with pytest.raises(SourceError, match=r"--path\.rootfs"):
        counters(machine).read()


def test_a_socket_that_vanishes_and_returns_renumbered_keeps_its_channel(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-epyc")
    source = counters(machine)
    before = channel(source, "cpu", "package-1", "rapl")
    link = machine.root / "sys/class/powercap/intel-rapl:1"
    target = link.readlink()
    for path in ("", ":0"):
        (machine.root / f"sys/class/powercap/intel-rapl:1{path}").unlink()
    machine.clock.advance(RESCAN_SECONDS)
    gone = source.read()
    assert len(gone.readings) == 2
    assert {fault.reason for fault in gone.faults} == {Reason.LOST}
    (machine.root / "sys/class/powercap/intel-rapl:4").symlink_to(target)
    machine.clock.advance(FAULT_RESCAN_SECONDS)
    back = source.read()
    assert before in [reading.channel for reading in back.readings]


def test_the_main_interface_is_read_before_mmio_whatever_the_folder_says(
    host: Callable[[str], Machine],
) -> None:
    machine = host("intel-2s")
    path = "sys/devices/virtual/powercap/intel-rapl-mmio/intel-rapl-mmio:0"
    machine.write(f"{path}/constraint_0_power_limit_uw", 1_000_000)
    assert values(limits(machine).read())["cpu", "package-0", "enforced"] == 150.0


def test_limits_are_those_that_are_stated(host: Callable[[str], Machine]) -> None:
    source = limits(host("intel-2s"))
    batch = source.read()
    assert values(batch) == {
        ("cpu", "package-0", "enforced"): 150.0,
        ("cpu", "package-0", "max"): 150.0,
        ("cpu", "package-0", "short_term"): 180.0,
        ("cpu", "package-1", "enforced"): 150.0,
        ("cpu", "package-1", "max"): 150.0,
        ("cpu", "package-1", "short_term"): 180.0,
        ("dram", "package-0", "max"): 41.25,
        ("dram", "package-1", "max"): 41.25,
    }
    assert {found.metric for found in source.channels()} == {COMPONENT_POWER_LIMIT}
    assert source.period_s == 15.0


def test_a_limit_that_is_taken_away_is_no_limit_of_zero_watts(
    host: Callable[[str], Machine],
) -> None:
    machine = host("rapl-denied")
    source = limits(machine)
    source.channels()
    machine.write(f"{INTEL}/intel-rapl:0/constraint_0_power_limit_uw", 0)
    batch = source.read()
    assert values(batch) == {("cpu", "package-0", "max"): 95.0}
    assert [fault.reason for fault in batch.faults] == [Reason.UNSUPPORTED]


@pytest.mark.parametrize("name", ["", "package", "package-0-die", "gpu", "package-٣", "x" * 300])
def test_a_zone_of_unknown_name_is_left_out_and_told(
    host: Callable[[str], Machine], name: str
) -> None:
    machine = host("amd-epyc")
    machine.write(f"{INTEL}/intel-rapl:1/name", name)
    batch = counters(machine).read()
    assert {reading.channel.labels[1] for reading in batch.readings} == {"package-0"}
    assert {(fault.channel, fault.reason) for fault in batch.faults} == {(None, Reason.UNSUPPORTED)}


def test_two_zones_of_one_name_count_once(host: Callable[[str], Machine]) -> None:
    machine = host("amd-epyc")
    machine.write(f"{INTEL}/intel-rapl:1/name", "package-0")
    batch = counters(machine).read()
    assert len(batch.readings) == 2
    assert {fault.reason for fault in batch.faults} == {Reason.UNSUPPORTED}


def test_a_name_that_is_no_text_costs_its_zone_only(host: Callable[[str], Machine]) -> None:
    machine = host("foreign-powercap")
    machine.write(f"{INTEL}/intel-rapl:0/intel-rapl:0:2/name", b"\xff\xfe\n")
    batch = counters(machine).read()
    assert len(batch.readings) == 3
    assert [(fault.channel, fault.reason) for fault in batch.faults] == [(None, Reason.GARBLED)]
