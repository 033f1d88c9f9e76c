"""The source process: this very process, seen by us and by psutil."""

from __future__ import annotations

import os
import resource
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
from joulefloor.sources import Site
from joulefloor.sources.process import ProcessSource, Settings, build
from stack.query import eventually
from tests.machine import Machine
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from joulefloor.catalogue import Metric
    from joulefloor.sources import Source


def this_process(machine: Machine) -> Source:
    (source,) = build(Site(machine.host, SystemClock(), Settings()))
    return source


def numbers(source: Source) -> dict[Metric, float]:
    return {reading.channel.metric: reading.value for reading in source.read().readings}


def test_it_reads_its_own_proc_and_agrees_with_psutil(machine: Machine) -> None:
    source = this_process(machine)
    truth = psutil.Process()
    found = numbers(source)
    assert found[catalogue.PROCESS_RSS] == pytest.approx(truth.memory_info().rss, rel=0.05)
    assert found[catalogue.PROCESS_VSZ] == pytest.approx(truth.memory_info().vms, rel=0.05)
    assert found[catalogue.PROCESS_START] == pytest.approx(truth.create_time(), abs=2.0)

    def counts_alike() -> bool:
        # Listing the folder takes one more, and threads of other tests open and close theirs.
        listed = os.listdir("/proc/self/fd")  # noqa: PTH208
        return numbers(source)[catalogue.PROCESS_FDS] == len(listed) - 1

    assert eventually(counts_alike, within_s=PATIENCE_S)
    assert found[catalogue.PROCESS_MAX_FDS] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < found[catalogue.PROCESS_CPU] <= SystemClock().process_cpu_s()
    source.close()


def test_every_number_has_a_channel_and_the_channel_is_kept(machine: Machine) -> None:
    source = this_process(machine)
    read = {reading.channel for reading in source.read().readings}
    assert read == set(source.channels())
    source.close()
    assert read == {reading.channel for reading in source.read().readings}


def test_the_start_stays_when_the_wall_clock_steps(machine: Machine) -> None:
    source = ProcessSource(Host(Path("/")), machine.clock, Settings())
    before = numbers(source)[catalogue.PROCESS_START]
    machine.clock.wall_s += 3_600
    assert numbers(source)[catalogue.PROCESS_START] == before


def test_without_proc_it_is_absent(machine: Machine) -> None:
    source = ProcessSource(machine.host, machine.clock, Settings())
    with pytest.raises(SourceError) as caught:
        source.channels()
    assert caught.value.reason is Reason.ABSENT


def test_a_command_with_spaces_and_brackets_does_not_shift_the_fields(machine: Machine) -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    machine.write("proc/self/stat", f"1 (a) b (c)) S {fields}")
    machine.write("proc/self/fd/0", "")
    found = numbers(ProcessSource(machine.host, machine.clock, Settings()))
    assert found[catalogue.PROCESS_VSZ] == 23
    assert found[catalogue.PROCESS_RSS] == 24 * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def any_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("process"))


words = st.sampled_from([b"1", b" ", b")", b"-7", b"9" * 25, b"x", b"\xff", b"12 13 14 15 16 "])


@given(content=st.lists(words, max_size=40).map(b"".join) | st.binary(max_size=60))
def test_any_bytes_give_readings_faults_or_a_source_error(
    any_machine: Machine, content: bytes
) -> None:
    any_machine.write("proc/self/stat", content)
    source = ProcessSource(any_machine.host, any_machine.clock, Settings())
    try:
        assert source.read().readings
    except SourceError as error:
        assert error.reason is Reason.GARBLED  # noqa: PT017  # either way is right
    finally:
        source.close()
