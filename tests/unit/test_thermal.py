"""Thermal zones, cooling fans and throttle time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import FAN_SPEED_RATIO, THROTTLE
from joulefloor.errors import Reason, SourceError
from joulefloor.sources import Site, thermal
from tests.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from joulefloor.sources import Source

ZONES = "sys/devices/virtual/thermal"


def build(machine: Machine) -> Source:
    (source,) = thermal.build(Site(machine.host, machine.clock, thermal.Settings()))
    return source


def values(source: Source) -> dict[tuple[str, ...], float]:
    return {reading.channel.labels: reading.value for reading in source.read().readings}


@pytest.fixture
def host(tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path, host_file=name)


def test_zones_fans_and_throttle_time_of_a_laptop(host: Callable[[str], Machine]) -> None:
    source = build(host("laptop-psys"))
    assert not source.read().faults
    assert values(source) == {
        ("board", "thermal", "acpitz"): 47.0,
        ("cpu", "package-0", "zone"): 49.0,
        ("board", "thermal", "INT3400 Thermal"): 20.0,
        ("cooling", "Fan"): 0.3,
        ("cpu", "package-0", "thermal"): 86.0,
    }
    metrics = {channel.labels: channel.metric for channel in source.channels()}
    assert metrics["cooling", "Fan"] is FAN_SPEED_RATIO
    assert metrics["cpu", "package-0", "thermal"] is THROTTLE


def test_package_zones_of_two_sockets_cannot_be_told_apart(
    host: Callable[[str], Machine],
) -> None:
    assert values(build(host("intel-2s"))) == {
        ("board", "thermal", "x86_pkg_temp"): 54.0,
        ("board", "thermal", "x86_pkg_temp-2"): 57.0,
        ("cpu", "package-0", "thermal"): 1.25,
        ("cpu", "package-1", "thermal"): 0.0,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("-274000", Reason.UNSUPPORTED),
        ("255000", Reason.UNSUPPORTED),
        ("", Reason.GARBLED),
        ("45.5", Reason.GARBLED),
    ],
)
def test_one_zone_without_a_reading_costs_only_itself(
    host: Callable[[str], Machine], content: str, reason: Reason
) -> None:
    machine = host("grace-c2")
    source = build(machine)
    machine.write(f"{ZONES}/thermal_zone1/temp", content)
    batch = source.read()
    assert [reading.channel.labels[2] for reading in batch.readings] == ["acpitz"]
    (fault,) = batch.faults
    assert fault.reason is reason
    assert fault.channel is not None
    assert fault.channel.labels == ("board", "thermal", "acpitz-2")


@pytest.mark.parametrize(("level", "most"), [(0, 0), (11, 10), (-1, 10)])
def test_a_level_that_is_no_share_is_no_number(
    host: Callable[[str], Machine], level: int, most: int
) -> None:
    machine = host("laptop-psys")
    machine.write(f"{ZONES}/cooling_device0/cur_state", level)
    machine.write(f"{ZONES}/cooling_device0/max_state", most)
    batch = build(machine).read()
    assert [fault.reason for fault in batch.faults] == [Reason.UNSUPPORTED]


def test_a_zone_whose_type_is_no_text_is_told_and_left_out(
    host: Callable[[str], Machine],
) -> None:
    machine = host("grace-c2")
    machine.write(f"{ZONES}/thermal_zone0/type", b"\xff\n")
    batch = build(machine).read()
    assert [reading.value for reading in batch.readings] == [51.0]
    assert [(fault.channel, fault.reason) for fault in batch.faults] == [(None, Reason.GARBLED)]


def test_throttle_time_is_that_of_the_first_cpu_of_each_package(
    host: Callable[[str], Machine],
) -> None:
    machine = host("intel-2s")
    path = "sys/devices/system/cpu/cpu{}/thermal_throttle/package_throttle_total_time_ms"
    machine.write(path.format(1), 999_999)
    machine.write(path.format(2), 250)
    found = values(build(machine))
    assert found["cpu", "package-0", "thermal"] == 1.25
    assert found["cpu", "package-1", "thermal"] == 0.25


@pytest.mark.parametrize("name", ["bare-vm", "masked-container"])
def test_a_machine_without_any_is_absent(host: Callable[[str], Machine], name: str) -> None:
    with pytest.raises(SourceError) as caught:
        build(host(name)).read()
    assert caught.value.reason is Reason.ABSENT
