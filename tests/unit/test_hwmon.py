"""hwmon power: which chips measure what, and what is left out rather than added twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import COMPONENT_ENERGY, NODE_ENERGY, PART_ENERGY
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FAULT_RESCAN_SECONDS
from joulefloor.model import Measures
from joulefloor.sources import Site, hwmon
from tests.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from joulefloor.model import Batch
    from joulefloor.sources import Source

ACPI = "sys/devices/LNXSYSTM:00/ACPI000D:00"
WATTS_412 = 412_000_000


def meters(machine: Machine, **settings: tuple[str, ...]) -> Source:
    return hwmon.build(Site(machine.host, machine.clock, hwmon.Settings(**settings)))[0]  # type: ignore[arg-type]


def limits(machine: Machine) -> Source:
    return hwmon.build(Site(machine.host, machine.clock, hwmon.Settings()))[1]


def values(batch: Batch) -> dict[tuple[str, ...], float]:
    return {reading.channel.labels: reading.value for reading in batch.readings}


def add_chip(machine: Machine, number: int, device: str, files: dict[str, object]) -> None:
    """A chip whose files are beside its `device` link."""
    base = f"sys/devices/{device}/hwmon/hwmon{number}"
    for name, content in files.items():
        machine.write(f"{base}/{name}", str(content))
    (machine.root / base / "device").symlink_to(f"../../../{device.rpartition('/')[2]}")
    link = machine.root / f"sys/class/hwmon/hwmon{number}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../../devices/{device}/hwmon/hwmon{number}")


@pytest.fixture
def host(tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path, host_file=name)


def test_an_acpi_power_meter_is_the_machine(host: Callable[[str], Machine]) -> None:
    source = meters(host("intel-2s"))
    batch = source.read()
    assert not batch.faults
    assert values(batch) == {("acpi", "measured"): 412.0}
    (channel,) = source.channels()
    assert channel.metric is NODE_ENERGY
    assert channel.measures is Measures.POWER
    assert channel.witnessed


@pytest.mark.parametrize("word", [0xFFFFFFFF * 1000, 0xFFFFFFFF, "unknown", 0, -1, 10**19])
def test_a_meter_that_does_not_know_is_no_number(
    host: Callable[[str], Machine], word: object
) -> None:
    machine = host("intel-2s")
    source = meters(machine)
    source.channels()
    machine.write(f"{ACPI}/power1_average", str(word))
    batch = source.read()
    assert not batch.readings
    (fault,) = batch.faults
    assert fault.reason is Reason.UNSUPPORTED
    assert "power1_average" in fault.detail


def test_a_garbled_meter_is_looked_for_again(host: Callable[[str], Machine]) -> None:
    machine = host("intel-2s")
    source = meters(machine)
    machine.write(f"{ACPI}/power1_average", "12 W")
    assert [fault.reason for fault in source.read().faults] == [Reason.GARBLED]
    machine.write(f"{ACPI}/power1_average", WATTS_412)
    machine.clock.advance(FAULT_RESCAN_SECONDS)
    assert values(source.read()) == {("acpi", "measured"): 412.0}


def test_a_meter_of_a_battery_is_not_the_machine(host: Callable[[str], Machine]) -> None:
    machine = host("intel-2s")
    machine.write(f"{ACPI}/power1_is_battery", 1)
    with pytest.raises(SourceError) as caught:
        meters(machine).channels()
    assert caught.value.reason is Reason.ABSENT


def second_meter(machine: Machine) -> None:
    files = {"name": "power_meter", "power1_average": 388_000_000}
    add_chip(machine, 9, "LNXSYSTM:00/ACPI000D:01", files)


def test_two_unnamed_meters_are_not_summed_unless_the_operator_says_so(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-zen2-dies")
    second_meter(machine)
    files = {"name": "power_meter", "power1_average": WATTS_412}
    add_chip(machine, 8, "LNXSYSTM:00/ACPI000D:00", files)
    add_chip(machine, 7, "platform/amd_energy.0", {"name": "amd_energy", "energy1_input": 5})
    machine.write("sys/devices/platform/amd_energy.0/hwmon/hwmon7/energy1_label", "Esocket0")
    batch = meters(machine).read()
    assert list(values(batch)) == [("cpu", "package-0", "amd-energy", "measured")]
    (fault,) = batch.faults
    assert "ACPI000D:00, ACPI000D:01" in fault.detail
    assert "hwmon.node_meters" in fault.detail
    both = meters(machine, node_meters=("ACPI000D:00", "ACPI000D:01"))
    assert values(both.read())["acpi", "measured"] == 800.0
    one = meters(machine, node_meters=("ACPI000D:01",))
    assert values(one.read())["acpi", "measured"] == 388.0


def test_grace_rails_are_found_by_what_firmware_calls_them(
    host: Callable[[str], Machine],
) -> None:
    source = meters(host("grace-c2"))
    batch = source.read()
    assert not batch.faults
    assert values(batch) == {
        ("cpu", "package-0", "grace", "measured"): 98.0,
        ("cpu", "package-1", "grace", "measured"): 101.0,
        ("cpu", "package-0", "core", "grace", "measured"): 41.0,
        ("cpu", "package-1", "core", "grace", "measured"): 44.0,
        ("cpu", "package-0", "sysio", "grace", "measured"): 15.0,
        ("cpu", "package-1", "sysio", "grace", "measured"): 18.0,
        ("grace-module", "measured"): 1_227.0,
    }
    assert all(channel.witnessed for channel in source.channels())
    kinds = {channel.labels[0]: channel.metric for channel in source.channels()}
    assert kinds["grace-module"] is NODE_ENERGY
    assert {channel.metric for channel in source.channels()} == {
        COMPONENT_ENERGY,
        PART_ENERGY,
        NODE_ENERGY,
    }


def grace_file(socket: int, rail: int, name: str) -> str:
    return f"sys/devices/LNXSYSTM:00/ACPI000D:{4 * socket + rail:02x}/{name}"


def test_without_the_module_of_every_socket_there_is_no_node_meter(
    host: Callable[[str], Machine],
) -> None:
    machine = host("grace-c2")
    machine.write(grace_file(1, 0, "power1_is_battery"), 1)
    batch = meters(machine).read()
    assert ("grace-module", "measured") not in values(batch)
    assert len(batch.readings) == 6
    assert "1 module rails for 2 sockets" in batch.faults[0].detail


def test_a_module_that_fails_later_leaves_no_partial_sum(host: Callable[[str], Machine]) -> None:
    machine = host("grace-c2")
    source = meters(machine)
    source.channels()
    machine.write(grace_file(1, 0, "power1_average"), 0xFFFFFFFF * 1000)
    batch = source.read()
    assert ("grace-module", "measured") not in values(batch)
    (fault,) = batch.faults
    assert fault.channel is not None
    assert fault.channel.labels == ("grace-module", "measured")


def test_a_rail_of_unknown_name_is_neither_a_part_nor_the_machine(
    host: Callable[[str], Machine],
) -> None:
    machine = host("grace-c2")
    machine.write(grace_file(0, 2, "power1_oem_info"), "Fan Power Socket 0")
    machine.write(grace_file(0, 3, "power1_oem_info"), "something else")
    batch = meters(machine).read()
    assert ("acpi", "measured") not in values(batch)
    assert len(batch.readings) == 5
    assert {fault.reason for fault in batch.faults} == {Reason.UNSUPPORTED}


def test_a_rail_whose_name_cannot_be_read_is_not_the_machine(
    host: Callable[[str], Machine],
) -> None:
    machine = host("grace-c2")
    machine.write(grace_file(0, 1, "power1_oem_info"), b"\xff\xff\n")
    batch = meters(machine).read()
    assert ("acpi", "measured") not in values(batch)
    assert ("cpu", "package-0", "grace", "measured") not in values(batch)
    assert Reason.GARBLED in {fault.reason for fault in batch.faults}


def test_hsmp_chips_are_sockets_in_order_and_gpus_go_by_address(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-epyc")
    batch = meters(machine).read()
    assert not batch.faults
    assert values(batch) == {
        ("cpu", "package-0", "hsmp", "measured"): 287.0,
        ("cpu", "package-1", "hsmp", "measured"): 291.0,
        ("gpu", "0000:c1:00.0", "amdgpu", "measured"): 182.0,
    }
    assert values(limits(machine).read()) == {
        ("cpu", "package-0", "enforced"): 400.0,
        ("cpu", "package-0", "max"): 400.0,
        ("cpu", "package-1", "enforced"): 400.0,
        ("cpu", "package-1", "max"): 400.0,
        ("gpu", "0000:c1:00.0", "enforced"): 300.0,
        ("gpu", "0000:c1:00.0", "default"): 300.0,
        ("gpu", "0000:c1:00.0", "max"): 300.0,
    }


def test_renumbered_chips_keep_their_channels(host: Callable[[str], Machine]) -> None:
    machine = host("amd-epyc")
    source = meters(machine)
    before = {reading.channel.labels: reading.channel for reading in source.read().readings}
    folder = machine.root / "sys/class/hwmon"
    targets = {link.name: link.readlink() for link in folder.iterdir()}
    for link in folder.iterdir():
        link.unlink()
    for name, target in targets.items():
        (folder / f"hwmon{20 - int(name.removeprefix('hwmon'))}").symlink_to(target)
    machine.clock.advance(60)
    batch = source.read()
    assert {reading.channel.labels: reading.channel for reading in batch.readings} == before
    assert values(batch)["cpu", "package-0", "hsmp", "measured"] == 287.0


def test_chips_that_do_not_fit_the_sockets_are_not_guessed(
    host: Callable[[str], Machine],
) -> None:
    machine = host("amd-epyc")
    (machine.root / "sys/class/hwmon/hwmon0").unlink()
    batch = meters(machine).read()
    assert list(values(batch)) == [("gpu", "0000:c1:00.0", "amdgpu", "measured")]
    (fault,) = batch.faults
    assert "1 chips amd_hsmp_hwmon on 2 CPU packages" in fault.detail


def test_the_average_is_read_where_there_is_one(host: Callable[[str], Machine]) -> None:
    machine = host("amd-epyc")
    gpu = "sys/devices/pci0000:c0/0000:c1:00.0/hwmon/hwmon4"
    machine.write(f"{gpu}/power1_input", 999_000_000)
    label = ("gpu", "0000:c1:00.0", "amdgpu", "measured")
    assert values(meters(machine).read())[label] == 182.0
    machine.write(f"{gpu}/power1_average_interval", 0)
    assert values(meters(machine).read())[label] == 999.0


def test_an_idle_gpu_may_draw_nothing_at_all(host: Callable[[str], Machine]) -> None:
    machine = host("amd-epyc")
    machine.write("sys/devices/pci0000:c0/0000:c1:00.0/hwmon/hwmon4/power1_average", 0)
    assert values(meters(machine).read())["gpu", "0000:c1:00.0", "amdgpu", "measured"] == 0.0


def test_numa_nodes_that_mirror_a_socket_count_once_and_cores_not_at_all(
    host: Callable[[str], Machine],
) -> None:
    batch = meters(host("amd-energy")).read()
    cpus = {labels: value for labels, value in values(batch).items() if labels[0] == "cpu"}
    assert cpus == {
        ("cpu", "package-0", "amd-energy", "measured"): 51_000.0,
        ("cpu", "package-1", "amd-energy", "measured"): 49_000.0,
    }


def test_the_card_is_the_gpu_and_its_package_a_part(host: Callable[[str], Machine]) -> None:
    machine = host("amd-energy")
    gpus = {labels for labels in values(meters(machine).read()) if labels[0] == "gpu"}
    assert gpus == {
        ("gpu", "0000:41:00.0", "xe", "measured"),
        ("gpu", "0000:41:00.0", "package", "xe", "measured"),
    }
    machine.remove("sys/devices/pci0000:40/0000:41:00.0/hwmon/hwmon1/energy1_input")
    batch = meters(machine).read()
    assert values(batch)["gpu", "0000:41:00.0", "xe", "measured"] == 99.0


def test_the_socket_power_that_an_apu_shows_as_its_gpu_is_left_out(
    host: Callable[[str], Machine],
) -> None:
    devices = {channel.labels[1] for channel in meters(host("amd-energy")).channels()}
    assert "0000:61:00.0" not in devices


@pytest.mark.parametrize("name", ["laptop-psys", "bare-vm", "masked-container"])
def test_power_sensors_of_unknown_meaning_are_not_meters(
    host: Callable[[str], Machine], name: str
) -> None:
    machine = host(name)
    for source in (meters(machine), limits(machine)):
        with pytest.raises(SourceError) as caught:
            source.read()
        assert caught.value.reason is Reason.ABSENT


def test_a_gpu_without_an_address_is_left_out(host: Callable[[str], Machine]) -> None:
    machine = host("intel-2s")
    add_chip(machine, 9, "platform/gpu.0", {"name": "xe", "energy1_input": 5})
    batch = meters(machine).read()
    assert list(values(batch)) == [("acpi", "measured")]
    assert "without PCI address" in batch.faults[0].detail
