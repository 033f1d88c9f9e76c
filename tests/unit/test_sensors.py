"""Temperatures and fans: where each belongs, and what is a sensor that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import FAN_SPEED, TEMPERATURE
from joulefloor.errors import Reason, SourceError
from joulefloor.sources import Site, sensors
from tests.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from joulefloor.sources import Source

BOARD = "sys/devices/platform/nct6775.656/hwmon/hwmon4"


def build(machine: Machine, **settings: object) -> Source:
    site = Site(machine.host, machine.clock, sensors.Settings(**settings))  # type: ignore[arg-type]
    (source,) = sensors.build(site)
    return source


def temperatures(source: Source) -> dict[tuple[str, ...], float]:
    readings = source.read().readings
    return {r.channel.labels: r.value for r in readings if r.channel.metric is TEMPERATURE}


def fans(source: Source) -> dict[tuple[str, ...], float]:
    readings = source.read().readings
    return {r.channel.labels: r.value for r in readings if r.channel.metric is FAN_SPEED}


@pytest.fixture
def host(tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path, host_file=name)


def test_every_sensor_of_a_server_is_under_its_component(host: Callable[[str], Machine]) -> None:
    source = build(host("intel-2s"))
    assert temperatures(source) == {
        ("cpu", "package-0", "die"): 54.0,
        ("cpu", "package-1", "die"): 57.0,
        ("disk", "nvme0", "composite"): 38.85,
        ("disk", "nvme0", "sensor-1"): 41.85,
        ("node", "chassis", "inlet"): 23.5,
        ("board", "nct6798-nct6775.656", "temp2"): 31.0,
    }
    assert fans(source) == {
        ("nct6798-nct6775.656", "FAN1"): 8_400.0,
        ("nct6798-nct6775.656", "FAN2"): 0.0,
    }


def test_missing_and_broken_probes_are_told_and_no_number(host: Callable[[str], Machine]) -> None:
    faults = build(host("intel-2s")).read().faults
    named = {fault.channel.labels[-1]: fault for fault in faults if fault.channel is not None}
    assert set(named) == {"DIMM", "VRM", "fan3"}
    assert {fault.reason for fault in faults} == {Reason.UNSUPPORTED}
    assert "no probe is connected" in named["DIMM"].detail
    assert "broken or not connected" in named["VRM"].detail


def test_a_probe_that_is_mended_reads_again(host: Callable[[str], Machine]) -> None:
    machine = host("intel-2s")
    source = build(machine)
    source.read()
    machine.write(f"{BOARD}/temp4_fault", 0)
    assert temperatures(source)["board", "nct6798-nct6775.656", "VRM"] == 40.0


def test_cores_are_left_out_unless_wanted(host: Callable[[str], Machine]) -> None:
    found = temperatures(build(host("intel-2s"), cores=True))
    assert found["cpu", "package-1", "core-1"] == 50.0


def test_tdie_is_preferred_to_tctl_and_ccds_are_wanted_only_with_cores(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-zen2-dies")
    assert temperatures(build(machine)) == {("cpu", "package-0", "die"): 58.25}
    found = temperatures(build(machine, cores=True))
    assert found["cpu", "package-0", "ccd-1"] == 55.0


def test_amd_chips_are_spread_over_the_packages(host: Callable[[str], Machine]) -> None:
    found = temperatures(build(host("amd-epyc")))
    assert found["cpu", "package-0", "die"] == 61.5
    assert found["cpu", "package-1", "die"] == 62.5


def test_dies_of_one_package_beyond_the_first_carry_their_number(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-epyc")
    for cpu in range(4):
        machine.write(f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", 0)
    found = temperatures(build(machine))
    assert found["cpu", "package-0", "die"] == 61.5
    assert found["cpu", "package-0", "die-1"] == 62.5


def test_amd_chips_that_fit_no_package_go_to_the_board(host: Callable[[str], Machine]) -> None:
    machine = host("amd-epyc")
    (machine.root / "sys/class/hwmon/hwmon2").unlink()
    source = build(machine)
    assert ("board", "k10temp-0000:00:19.3", "Tctl") in temperatures(source)
    assert {fault.channel for fault in source.read().faults} == {None}


def test_gpu_sensors_have_the_same_names_for_every_vendor(
    host: Callable[[str], Machine],
) -> None:
    amd = temperatures(build(host("amd-epyc")))
    assert amd["gpu", "0000:c1:00.0", "die"] == 47.0
    assert amd["gpu", "0000:c1:00.0", "hotspot"] == 52.0
    assert amd["gpu", "0000:c1:00.0", "memory"] == 61.0


def test_intel_gpus_network_cards_and_disks_are_known_by_their_devices(
    host: Callable[[str], Machine],
) -> None:
    source = build(host("amd-energy"))
    assert temperatures(source) == {
        ("gpu", "0000:41:00.0", "die"): 44.0,
        ("gpu", "0000:41:00.0", "memory"): 46.0,
        ("gpu", "0000:61:00.0", "die"): 41.0,
        ("nic", "ens1np0", "asic"): 55.0,
        ("disk", "sda", "temp1"): 33.0,
    }
    assert fans(source) == {("0000:41:00.0", "fan1"): 1_250.0}


def test_a_thermal_zone_that_is_also_a_chip_is_left_to_its_source(
    host: Callable[[str], Machine],
) -> None:
    found = temperatures(build(host("laptop-psys")))
    assert found == {
        ("cpu", "package-0", "die"): 49.0,
        ("board", "thinkpad_hwmon", "CPU"): 49.0,
    }


def test_chips_can_be_left_alone(host: Callable[[str], Machine]) -> None:
    source = build(host("intel-2s"), ignore=("nvme*", "nct6798-*"))
    assert set(temperatures(source)) == {
        ("cpu", "package-0", "die"),
        ("cpu", "package-1", "die"),
    }
    assert not fans(source)


def test_sensors_of_one_name_are_told_apart_by_their_number(
    host: Callable[[str], Machine],
) -> None:
    machine = host("intel-2s")
    machine.write(f"{BOARD}/temp2_label", "Inlet Temp")
    machine.write(f"{BOARD}/fan2_label", "FAN1")
    source = build(machine)
    found = temperatures(source)
    assert found["node", "chassis", "inlet"] == 23.5
    assert found["node", "chassis", "inlet-2"] == 31.0
    assert fans(source)["nct6798-nct6775.656", "FAN1-2"] == 0.0


def test_a_label_is_one_printable_line(host: Callable[[str], Machine]) -> None:
    machine = host("intel-2s")
    machine.write(f"{BOARD}/temp2_label", "a\tb\nc\x07d" + "e" * 200)
    found = [labels[2] for labels in temperatures(build(machine)) if labels[2].startswith("a b")]
    assert found == ["a b c d" + "e" * 57]


def test_a_machine_without_sensors_is_absent(host: Callable[[str], Machine]) -> None:
    with pytest.raises(SourceError) as caught:
        build(host("bare-vm")).channels()
    assert caught.value.reason is Reason.ABSENT
