"""What every source over kept files promises: rescans, stable channels, lost meters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import COMPONENT_ENERGY
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FAULT_RESCAN_SECONDS, FileMeter, FileSource, scaled
from joulefloor.model import Channel, Measures
from joulefloor.sources import RESCAN_SECONDS
from joulefloor.units import joules_from_microjoules

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machine import Machine


class Shelf:
    """A source whose meters are the files of a folder: the name is the device, then a number."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.scans = 0
        self.spans: dict[str, float] = {}
        self.source = FileSource("shelf", 1.0, 0.5, machine.clock, self.discover)

    def discover(self, note: Callable[[SourceError], None]) -> list[FileMeter]:
        self.scans += 1
        host = self.machine.host
        names = host.names("meters") if host.has("meters") else []
        if not names:
            raise SourceError(Reason.ABSENT, "meters: none")
        for name in names:
            if name == "odd":
                note(SourceError(Reason.UNSUPPORTED, "meters/odd: what is this"))
        return [self.meter(name) for name in names if name != "odd"]

    def meter(self, name: str) -> FileMeter:
        device = name.partition(".")[0]
        labels = ("cpu", device, "shelf", "measured")
        channel = Channel(COMPONENT_ENERGY, labels, Measures.ENERGY, self.spans.get(device))
        file = self.machine.host.keep(f"meters/{name}")
        return FileMeter(channel, (file,), scaled(file, joules_from_microjoules))


def test_a_meter_that_is_found_again_elsewhere_keeps_its_channel(machine: Machine) -> None:
    machine.write("meters/a.0", 1_000_000)
    shelf = Shelf(machine)
    (before,) = shelf.source.read().readings
    machine.remove("meters/a.0")
    machine.write("meters/a.7", 3_000_000)
    machine.clock.advance(FAULT_RESCAN_SECONDS)
    assert [fault.reason for fault in shelf.source.read().faults] == [Reason.GARBLED]
    (after,) = shelf.source.read().readings
    assert after.channel is before.channel
    assert (before.value, after.value) == (1.0, 3.0)


def test_a_meter_that_is_gone_is_lost_and_the_others_stand(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    machine.write("meters/b", 2_000_000)
    shelf = Shelf(machine)
    lost = shelf.source.channels()[0]
    machine.remove("meters/a")
    machine.clock.advance(RESCAN_SECONDS)
    batch = shelf.source.read()
    assert [reading.value for reading in batch.readings] == [2.0]
    assert [(fault.channel, fault.reason) for fault in batch.faults] == [(lost, Reason.LOST)]
    machine.write("meters/a", 4_000_000)
    machine.clock.advance(FAULT_RESCAN_SECONDS)
    batch = shelf.source.read()
    assert [reading.value for reading in batch.readings] == [4.0, 2.0]
    assert batch.readings[0].channel is lost
    assert not batch.faults


def test_a_new_meter_is_found_within_a_minute(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    shelf = Shelf(machine)
    assert len(shelf.source.read().readings) == 1
    machine.write("meters/b", 1_000_000)
    machine.clock.advance(RESCAN_SECONDS)
    assert len(shelf.source.read().readings) == 2


def test_a_lasting_fault_does_not_make_every_read_a_scan(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    machine.write("meters/b", "rubbish")
    shelf = Shelf(machine)
    for _ in range(10):
        shelf.source.read()
        machine.clock.advance(1.0)
    assert shelf.scans == 1
    shelf.source.read()
    assert shelf.scans == 2


def test_a_counter_with_another_range_is_another_channel_of_the_same_key(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    shelf = Shelf(machine)
    (before,) = shelf.source.channels()
    shelf.spans["a"] = 65_532.0
    machine.clock.advance(RESCAN_SECONDS)
    (after,) = shelf.source.channels()
    assert after.key == before.key
    assert after.wraps_at_joules == 65_532.0


def test_two_meters_of_one_name_are_not_both_read(machine: Machine) -> None:
    machine.write("meters/a.0", 1_000_000)
    machine.write("meters/a.1", 2_000_000)
    batch = Shelf(machine).source.read()
    assert [reading.value for reading in batch.readings] == [1.0]
    assert [fault.reason for fault in batch.faults] == [Reason.UNSUPPORTED]
    assert "meters/a.1: the same meter as meters/a.0" in batch.faults[0].detail


def test_what_is_odd_is_told_with_every_read(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    machine.write("meters/odd", "x")
    source = Shelf(machine).source
    for _ in range(2):
        faults = source.read().faults
        assert [(fault.channel, fault.reason) for fault in faults] == [(None, Reason.UNSUPPORTED)]


def test_without_meters_it_is_absent_and_looks_each_time(machine: Machine) -> None:
    shelf = Shelf(machine)
    with pytest.raises(SourceError) as caught:
        shelf.source.channels()
    assert caught.value.reason is Reason.ABSENT
    machine.write("meters/a", 1_000_000)
    assert len(shelf.source.read().readings) == 1


def test_when_all_it_ever_had_is_gone_it_is_lost_not_absent(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    source = Shelf(machine).source
    source.read()
    machine.remove("meters/a")
    machine.clock.advance(RESCAN_SECONDS)
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            source.read()
        assert caught.value.reason is Reason.LOST
        source.close()


def test_close_may_come_first_twice_and_before_another_read(machine: Machine) -> None:
    machine.write("meters/a", 1_000_000)
    source = Shelf(machine).source
    source.close()
    source.close()
    (before,) = source.channels()
    source.close()
    (reading,) = source.read().readings
    assert reading.channel is before
