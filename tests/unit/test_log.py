"""The log: what a line looks like, and that one that cannot be written is lost and counted."""

from __future__ import annotations

import json
import os
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple

import pytest

from joulefloor.log import Log, Severity
from tests.machine import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


class Pipe(NamedTuple):
    """A log whose reader may fall behind, or go away."""

    reader: FileIO
    stream: TextIO

    @property
    def log(self) -> Log:
        return Log(ManualClock(), stream=self.stream)

    def fill(self) -> None:
        os.set_blocking(self.stream.fileno(), False)
        try:
            while True:
                os.write(self.stream.fileno(), b"\n" * 4096)
        except BlockingIOError:
            os.set_blocking(self.stream.fileno(), True)

    def read(self) -> str:
        """What came so far."""
        os.set_blocking(self.reader.fileno(), False)
        return (self.reader.readall() or b"").decode().lstrip("\n")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    with FileIO(reader) as read_end, os.fdopen(writer, "w") as stream:
        yield Pipe(read_end, stream)


def test_a_line_names_time_level_event_and_fields(pipe: Pipe) -> None:
    pipe.log.warning("source_down", source="rapl", detail='a "b"\nc')
    line = (
        'unix_s=1800000000.0 level=warning event=source_down source=rapl detail="a \\"b\\"\\nc"\n'
    )
    assert pipe.read() == line


def test_as_json_a_line_is_an_object(pipe: Pipe) -> None:
    Log(ManualClock(), as_json=True, stream=pipe.stream).info("started", listen="x")
    assert json.loads(pipe.read())["listen"] == "x"


def test_what_is_below_the_severity_is_not_written(pipe: Pipe) -> None:
    Log(ManualClock(), Severity.ERROR, stream=pipe.stream).warning("quiet")
    assert pipe.read() == ""


def test_a_line_for_which_there_is_no_room_is_lost_and_the_next_one_says_so(pipe: Pipe) -> None:
    log = pipe.log
    pipe.fill()
    log.info("one")
    log.info("two")
    pipe.read()
    log.info("three")
    log.info("four")
    events = [line.split("event=")[1] for line in pipe.read().splitlines()]
    assert events == ["log_lines_lost lines=2", "three", "four"]


def test_a_line_longer_than_a_pipe_takes_at_once_arrives_whole(pipe: Pipe) -> None:
    pipe.log.error("source_bug", traceback="y" * 20_000)
    assert pipe.read().count("y") == 20_000


def test_a_line_longer_than_the_whole_pipe_holds_nobody_up(pipe: Pipe) -> None:
    pipe.log.error("source_bug", traceback="x" * 200_000)
    assert pipe.read()


def test_a_reader_that_went_away_costs_the_line_and_nothing_later(pipe: Pipe) -> None:
    log = pipe.log
    pipe.reader.close()
    log.info("one")
    log.info("two")


def test_a_device_without_room_costs_the_line_and_nothing_later() -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123  # a device
        Log(ManualClock(), stream=stream).info("one")


def test_without_a_standard_error_there_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    Log(ManualClock()).info("one")
