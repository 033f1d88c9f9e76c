"""The contract every source keeps, whatever machine it meets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from joulefloor import catalogue
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Measures
from joulefloor.plugins import installed
from joulefloor.sources import Site
from tests.machine import HOSTS, Machine

if TYPE_CHECKING:
    from joulefloor.model import Batch
    from joulefloor.sources import Source

PLUGINS = installed()
MACHINES = [path.stem for path in sorted(HOSTS.glob("*.host"))]
EVERYWHERE = [(name, host) for name in PLUGINS for host in MACHINES]


def build(name: str, machine: Machine) -> tuple[Source, ...]:
    loaded = PLUGINS[name].load()
    return tuple(loaded.build(Site(machine.host, machine.clock, loaded.settings())))


def read(source: Source) -> Batch | SourceError:
    try:
        return source.read()
    except SourceError as error:
        return error


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def met(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Machine, tuple[Source, ...]]:
    """One source on one machine."""
    name, host = request.param
    machine = Machine(tmp_path, host_file=host)
    return machine, build(name, machine)


def test_building_touches_nothing_and_periods_make_sense(
    met: tuple[Machine, tuple[Source, ...]],
) -> None:
    for source in met[1]:
        assert 0 < source.period_s <= source.deadline_s * 10
        assert source.deadline_s > 0
        assert source.name == source.name.lower().strip()


def test_readings_are_of_declared_channels_in_catalogue_form(
    met: tuple[Machine, tuple[Source, ...]],
) -> None:
    machine, sources = met
    for source in sources:
        machine.clock.advance(1)
        batch = read(source)
        if isinstance(batch, SourceError):
            continue
        declared = {id(channel) for channel in source.channels()}
        keys = [reading.channel.key for reading in batch.readings]
        assert len(keys) == len(set(keys)), "one series twice"
        for reading in batch.readings:
            channel = reading.channel
            assert id(channel) in declared
            assert channel.metric in catalogue.METRICS
            assert len(channel.labels) == len(channel.metric.labels)
            energy = channel.measures in {Measures.ENERGY, Measures.POWER}
            assert energy == (channel.metric in catalogue.POWER_OF)
            assert channel.max_watts > 0
            assert reading.value == reading.value
            assert reading.at_ns == machine.clock.now_ns


def test_absent_and_failed_reads_say_what_and_where(
    met: tuple[Machine, tuple[Source, ...]],
) -> None:
    for source in met[1]:
        batch = read(source)
        details = (
            [batch.detail] if isinstance(batch, SourceError) else [f.detail for f in batch.faults]
        )
        assert all(len(detail) > 5 for detail in details)


def test_closing_twice_and_reading_again_works(met: tuple[Machine, tuple[Source, ...]]) -> None:
    for source in met[1]:
        first = read(source)
        source.close()
        source.close()
        again = read(source)
        assert type(first) is type(again)
        if not isinstance(first, SourceError) and not isinstance(again, SourceError):
            assert {r.channel.key for r in first.readings} == {
                r.channel.key for r in again.readings
            }


def test_two_reads_on_a_still_machine_give_the_same_channels(
    met: tuple[Machine, tuple[Source, ...]],
) -> None:
    machine, sources = met
    for source in sources:
        first = read(source)
        machine.clock.advance(source.period_s)
        second = read(source)
        if not isinstance(first, SourceError) and not isinstance(second, SourceError):
            before = {id(reading.channel) for reading in first.readings}
            assert before == {id(reading.channel) for reading in second.readings}


def test_a_root_that_vanishes_is_absent_or_lost_and_never_an_accident(
    met: tuple[Machine, tuple[Source, ...]],
) -> None:
    machine, sources = met
    for source in sources:
        read(source)
        source.close()
    for path in sorted(machine.root.rglob("*"), reverse=True):
        path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
    machine.clock.advance(120)
    for source in sources:
        batch = read(source)
        if isinstance(batch, SourceError):
            assert batch.reason in {Reason.ABSENT, Reason.LOST}


def test_there_are_machines_to_meet() -> None:
    assert len(MACHINES) >= 6
    assert Path(HOSTS).is_dir()
