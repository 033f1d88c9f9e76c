"""Any bytes in any file of a machine give readings or faults, and nothing else ever."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulefloor.errors import SourceError
from joulefloor.sources import Site, hwmon, rapl, sensors, thermal
from tests.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from joulefloor.model import Batch
    from joulefloor.sources import Source

CONTENT = st.one_of(
    st.binary(max_size=40),
    st.integers(min_value=-(10**21), max_value=10**21).map(lambda value: b"%d\n" % value),
    st.sampled_from([b"", b"\0", b"unknown\n", b"\xff\xff", b"4294967295000\n", b"package-0\n"]),
)
CASES = [
    (rapl, "intel-2s"),
    (rapl, "amd-zen2-dies"),
    (hwmon, "grace-c2"),
    (hwmon, "amd-energy"),
    (hwmon, "amd-epyc"),
    (sensors, "intel-2s"),
    (sensors, "amd-energy"),
    (thermal, "laptop-psys"),
]


def batch_of(source: Source) -> Batch | None:
    try:
        return source.read()
    except SourceError:
        return None


def check(batch: Batch | None) -> None:
    if batch is None:
        return
    keys = [reading.channel.key for reading in batch.readings]
    assert len(keys) == len(set(keys))
    for reading in batch.readings:
        assert math.isfinite(reading.value)
        assert len(reading.channel.labels) == len(reading.channel.metric.labels)
        assert all(reading.channel.labels)
        assert reading.channel.max_watts > 0
        assert all(label.isprintable() for label in reading.channel.labels)


@pytest.mark.parametrize(("module", "name"), CASES)
def test_any_bytes_give_readings_or_faults(module: ModuleType, name: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=name)
    site: Site[Any] = Site(machine.host, machine.clock, module.Settings())
    sources: tuple[Source, ...] = module.build(site)
    paths = [path for path in sorted((tmp_path / "sys").rglob("*")) if path.is_file()]
    files = sorted(str(path.relative_to(tmp_path)) for path in paths if not path.is_symlink())

    @settings(max_examples=100, deadline=None)
    @given(path=st.sampled_from(files), content=CONTENT)
    def any_bytes(path: str, content: bytes) -> None:
        before = (machine.root / path).read_bytes()
        for source in sources:
            batch_of(source)
        machine.write(path, content)
        for source in sources:
            check(batch_of(source))
            source.close()
            check(batch_of(source))
            source.close()
        machine.write(path, before)

    any_bytes()
