"""The source links: each byte counted once, one bad device stays one bad device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor.errors import Reason, SourceError
from joulefloor.sources import Site
from joulefloor.sources.links import MOST_DEVICES, Settings, build
from tests.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from joulefloor.model import Batch
    from joulefloor.sources import Source

STATISTICS = "sys/class/net/ens5/statistics"
STAT = "sys/block/nvme0n1/stat"


@pytest.fixture
def vm(tmp_path: Path) -> Machine:
    return Machine(tmp_path, host_file="vm-cloud-xeon")


def links(machine: Machine, settings: Settings | None = None) -> Source:
    (source,) = build(Site(machine.host, machine.clock, settings or Settings()))
    return source


def values(batch: Batch) -> dict[tuple[str, ...], float]:
    return {reading.channel.labels: reading.value for reading in batch.readings}


def devices(source: Source) -> set[str]:
    return {channel.labels[1] for channel in source.channels()}


def test_physical_interfaces_and_whole_disks_are_read_and_nothing_twice(vm: Machine) -> None:
    batch = links(vm).read()
    assert values(batch) == {
        ("nic", "ens5", "network", "receive"): 1_000_000,
        ("nic", "ens5", "network", "transmit"): 250_000,
        ("disk", "nvme0n1", "disk", "read"): 7_255_826 * 512,
        ("disk", "nvme0n1", "disk", "write"): 7_518_120 * 512,
    }
    assert batch.faults == ()


def test_in_a_container_the_virtual_interface_is_read_but_not_loopback(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file="vm-arm-container")
    assert devices(links(machine)) == {"eth0"}


def test_settings_include_and_exclude_by_pattern(vm: Machine) -> None:
    settings = Settings(
        include_interfaces=("docker*",),
        exclude_interfaces=("ens*",),
        include_disks=("dm-*", "zram0"),
        exclude_disks=("nvme*", "zram*"),
    )
    assert devices(links(vm, settings)) == {"docker0", "dm-0"}


def test_a_garbled_disk_is_two_faults_and_the_interface_stands(vm: Machine) -> None:
    source = links(vm)
    source.read()
    vm.write(STAT, "1 2 many 4 5 6 7 8")
    batch = source.read()
    assert {labels[1] for labels in values(batch)} == {"ens5"}
    assert [fault.reason for fault in batch.faults] == [Reason.GARBLED] * 2
    vm.write(STAT, "1 2 3")
    assert {fault.reason for fault in source.read().faults} == {Reason.GARBLED}


def test_a_negative_count_is_no_reading(vm: Machine) -> None:
    vm.write(f"{STATISTICS}/rx_bytes", -5)
    vm.write(STAT, "1 2 -3 4 5 6 7 8")
    batch = links(vm).read()
    assert values(batch) == {("nic", "ens5", "network", "transmit"): 250_000}
    assert len(batch.faults) == 3


def test_a_device_that_vanishes_is_forgotten_and_found_again_with_its_channels(
    vm: Machine,
) -> None:
    source = links(vm)
    before = {channel.labels: channel for channel in source.channels()}
    source.read()
    vm.write(STAT, b"")
    (vm.root / STAT).unlink()
    batch = source.read()
    assert {fault.reason for fault in batch.faults} == {Reason.GARBLED}
    vm.write(STAT, "1 2 10 4 5 6 20 8")
    batch = source.read()
    assert values(batch)["disk", "nvme0n1", "disk", "read"] == 5_120
    assert {reading.channel for reading in batch.readings} == set(before.values())


def test_a_new_interface_is_found_within_a_minute(vm: Machine) -> None:
    source = links(vm, Settings(include_interfaces=("tun*",)))
    source.read()
    for name, value in (("ifindex", 9), ("statistics/rx_bytes", 1), ("statistics/tx_bytes", 2)):
        vm.write(f"sys/class/net/tun0/{name}", value)
    assert len(source.read().readings) == 4
    vm.clock.advance(61)
    assert len(source.read().readings) == 6


def test_more_devices_than_allowed_are_a_fault_that_names_the_setting(machine: Machine) -> None:
    for number in range(MOST_DEVICES + 7):
        folder = f"sys/class/net/eth{number}"
        machine.write(f"{folder}/ifindex", number)
        machine.write(f"{folder}/statistics/rx_bytes", number)
        machine.write(f"{folder}/statistics/tx_bytes", number)
    batch = links(machine).read()
    assert len(batch.readings) == 2 * MOST_DEVICES
    (fault,) = batch.faults
    assert fault.channel is None
    assert "71 interfaces" in fault.detail
    assert "sources.links.exclude_interfaces" in fault.detail


def test_a_machine_without_links_is_absent(machine: Machine) -> None:
    with pytest.raises(SourceError) as caught:
        links(machine).channels()
    assert caught.value.reason is Reason.ABSENT


@pytest.fixture(scope="module")
def any_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("links"), host_file="vm-cloud-xeon")


words = st.sampled_from([b"1", b" ", b"\n", b"-7", b"9" * 25, b"x", b"\xff", b"12"])


@given(
    path=st.sampled_from([STAT, f"{STATISTICS}/rx_bytes", "sys/block/nvme0n1/hidden"]),
    content=st.lists(words, max_size=24).map(b"".join) | st.binary(max_size=60),
)
def test_any_bytes_give_readings_or_faults(any_machine: Machine, path: str, content: bytes) -> None:
    any_machine.write(path, content)
    source = links(any_machine)
    batch = source.read()
    source.close()
    assert all(reading.value >= 0 for reading in batch.readings)
    assert len(batch.readings) + len(batch.faults) in {2, 4}
