"""The power model: linear, from published coefficients, and honest about which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Measures
from joulefloor.processors import CpuKind
from joulefloor.sources import Site
from joulefloor.sources.model import TABLE, Settings, _rows, build, coefficients_of
from joulefloor.units import Watts
from tests.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from joulefloor.sources import Source

CPU = ("cpu", "package-0", "model", "modelled")
DRAM = ("dram", "package-0", "model", "modelled")


def model(machine: Machine, settings: Settings | None = None) -> Source:
    (source,) = build(Site(machine.host, machine.clock, settings or Settings()))
    return source


def joules(source: Source) -> dict[tuple[str, ...], float]:
    return {
        reading.channel.labels: reading.value
        for reading in source.read().readings
        if reading.channel.measures is Measures.ENERGY
    }


def row_in_use(source: Source) -> str:
    (info,) = (c for c in source.channels() if c.metric is catalogue.DEVICE_INFO)
    return info.label("vendor")


def write_busy(machine: Machine, ticks: int) -> None:
    lines = "".join(f"cpu{number} {ticks} 0 0 0 0 0 0 0\n" for number in range(4))
    machine.write("proc/stat", f"cpu  0 0 0 0 0 0 0 0\n{lines}intr 1")


@pytest.fixture
def vm(tmp_path: Path) -> Machine:
    return Machine(tmp_path, host_file="vm-cloud-xeon")


def test_an_idle_vm_draws_the_idle_watts_of_its_microarchitecture(vm: Machine) -> None:
    source = model(vm)
    assert row_in_use(source) == "Cascade Lake"
    before = joules(source)
    vm.clock.advance(10)
    after = joules(source)
    assert after[CPU] - before[CPU] == pytest.approx(4 * 0.69 * 10)


def test_a_busy_vm_draws_the_greatest_watts(vm: Machine) -> None:
    source = model(vm)
    write_busy(vm, 5_000)
    before = joules(source)
    vm.clock.advance(10)
    write_busy(vm, 6_000)
    assert joules(source)[CPU] - before[CPU] == pytest.approx(4 * 4.06 * 10)


def test_memory_beyond_what_the_cpus_watts_contain_draws_a_constant(vm: Machine) -> None:
    source = model(vm)
    before = joules(source)
    vm.clock.advance(100)
    assert joules(source)[DRAM] - before[DRAM] == pytest.approx((16 - 4) * 0.392 * 100)


def test_a_small_vm_has_no_memory_of_its_own_in_the_model(tmp_path: Path) -> None:
    source = model(Machine(tmp_path, host_file="vm-arm-container"))
    assert row_in_use(source) == "Neoverse N1"
    assert set(joules(source)) == {CPU}


def test_settings_override_the_table(vm: Machine) -> None:
    settings = Settings(
        watts_per_cpu_idle=Watts(1.0),
        watts_per_cpu_max=Watts(3.0),
        watts_per_gib=Watts(0.5),
        gib_per_cpu_included=0.0,
    )
    source = model(vm, settings)
    assert row_in_use(source) == "configured"
    write_busy(vm, 5_000)
    before = joules(source)
    vm.clock.advance(10)
    write_busy(vm, 5_500)
    after = joules(source)
    assert after[CPU] - before[CPU] == pytest.approx(4 * 2.0 * 10)
    assert after[DRAM] - before[DRAM] == pytest.approx(16 * 0.5 * 10)


def test_zero_watts_is_a_value_and_not_a_missing_one(vm: Machine) -> None:
    settings = Settings(watts_per_cpu_idle=Watts(0.0), watts_per_cpu_max=Watts(0.0))
    source = model(vm, settings)
    before = joules(source)
    vm.clock.advance(10)
    assert joules(source)[CPU] == before[CPU] == 0


def test_a_greatest_power_below_the_idle_power_is_refused_with_both(vm: Machine) -> None:
    source = model(vm, Settings(watts_per_cpu_idle=Watts(9.0)))
    for _ in range(2):
        with pytest.raises(SourceError, match=r"watts_per_cpu_max \(4.06 W\)"):
            source.read()


def test_an_unknown_cpu_gets_the_average_and_says_so(vm: Machine) -> None:
    vm.write("proc/cpuinfo", "vendor_id : HygonGenuine\ncpu family : 24")
    assert row_in_use(model(vm)).startswith("average server")


def test_power_stays_below_what_the_channel_declares(vm: Machine) -> None:
    bounds = {c.labels: c.max_watts for c in model(vm).channels()}
    assert bounds[CPU] > 4 * 4.06
    assert bounds[DRAM] > 12 * 0.392


def test_a_cpu_that_comes_online_changes_the_model(vm: Machine) -> None:
    source = model(vm)
    write_busy(vm, 0)
    source.read()
    vm.write("proc/stat", "cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nintr 1")
    before = joules(source)
    vm.clock.advance(10)
    assert joules(source)[CPU] - before[CPU] == pytest.approx(2 * 0.69 * 10)


def test_without_proc_it_is_absent(machine: Machine) -> None:
    with pytest.raises(SourceError) as caught:
        model(machine).channels()
    assert caught.value.reason is Reason.ABSENT


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CpuKind("GenuineIntel", "", 6, 85, 4), "Skylake (server)"),
        (CpuKind("GenuineIntel", "", 6, 85, 7), "Cascade Lake"),
        (CpuKind("GenuineIntel", "", 6, 85, 11), "average server (CPU not listed)"),
        (CpuKind("GenuineIntel", "", 6, 143, 8), "Sapphire Rapids"),
        (CpuKind("AuthenticAMD", "", 25, 1, 1), "EPYC 3rd Gen"),
        (CpuKind("AuthenticAMD", "", 25, 17, 1), "EPYC 4th Gen"),
        (CpuKind("AuthenticAMD", "", 26, 2, 1), "EPYC 5th Gen (Zen 5)"),
        (CpuKind("AuthenticAMD", "", 26, 17, 0), "EPYC 5th Gen (Zen 5c)"),
        (CpuKind("ARM", "", 0, 0xD4F, 0), "Neoverse V1 and V2 (figures of EPYC 2nd Gen)"),
        (CpuKind("", ""), "average server (CPU not listed)"),
    ],
)
def test_the_table_knows_the_microarchitecture(kind: CpuKind, name: str) -> None:
    assert coefficients_of(kind, TABLE.read_text("utf-8")).name == name


def test_every_row_of_the_table_is_plausible_and_names_source_year_and_licence() -> None:
    rows = list(_rows(TABLE.read_text("utf-8")))
    assert len(rows) > 15
    for row in rows:
        assert 0 < float(row[5]) < float(row[6]) < 10
        assert row[7]
        assert 2000 < int(row[8]) < 2100
        assert row[9]
    assert rows[-1][:4] == ["*"] * 4


@pytest.fixture(scope="module")
def any_machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("model"), host_file="vm-cloud-xeon")


words = st.sampled_from(
    [
        *(b"cpu family\t: 6\n", b"model\t: ", b"0x", b"-1", b"9" * 30, b"MemTotal: ", b" kB\n"),
        *(b"vendor_id\t: GenuineIntel\n", b"CPU implementer : 0x41\n", b"CPU part : 0xd0c\n"),
        *(b"\xff", b"\n"),
    ]
)


@given(
    path=st.sampled_from(["proc/cpuinfo", "proc/meminfo", "proc/stat"]),
    content=st.lists(words, max_size=16).map(b"".join) | st.binary(max_size=60),
)
def test_any_bytes_give_readings_or_a_source_error(
    any_machine: Machine, path: str, content: bytes
) -> None:
    any_machine.write(path, content)
    source = model(any_machine)
    try:
        assert all(reading.value >= 0 for reading in source.read().readings)
    except SourceError as error:
        assert error.reason is Reason.GARBLED  # noqa: PT017  # either way is right
    finally:
        source.close()
        write_busy(any_machine, 1)
