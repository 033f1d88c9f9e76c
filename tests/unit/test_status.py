"""What /status and the live page know: sums, methods, sources, and sentences for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.errors import Reason
from joulefloor.model import EMPTY, Channel, Fault, Health, Measures, Snapshot
from joulefloor.status import Status, read_status, status
from tests.unit.snapshots import component, snapshot_of

if TYPE_CHECKING:
    from joulefloor.notices import Notice

FAN = Channel(catalogue.FAN_SPEED, ("chip", "fan3"), Measures.LEVEL)
NODE = [
    (catalogue.NODE_POWER, ("acpi", "measured"), 250.0),
    (catalogue.NODE_ENERGY, ("acpi", "measured"), 5e5),
]
STATIC = (catalogue.COMPONENT_STATIC_POWER, ("cpu", "package-0"), 30.0)


def read(snapshot: Snapshot) -> Status:
    return read_status(snapshot, host="node-1", version="1.2.3", uptime_s=60.0)


def words(found: tuple[Notice, ...]) -> str:
    return "\n".join(f"{notice.severity} {notice.source}: {notice.text}" for notice in found)


def test_without_a_node_meter_the_total_is_the_sum_of_components() -> None:
    known = read(snapshot_of(component("cpu", "package-0", 100) + component("dram", "n", 20)))
    assert (known.power.watts, known.power.method) == (120.0, "measured")
    assert known.power.basis == "sum of 2 components"


def test_a_node_meter_is_the_total() -> None:
    known = read(snapshot_of(NODE + component("cpu", "package-0", 100, "modelled")))
    assert (known.power.watts, known.power.method) == (250.0, "measured")
    assert known.power.basis == "node meter acpi"
    assert known.node[0].joules == 5e5
    assert "No wall meter" not in words(known.warnings)


def test_a_node_meter_below_its_parts_is_told() -> None:
    said = words(read(snapshot_of(NODE + component("gpu", "GPU-0", 300))).warnings)
    assert "The node meter reads 250 W, its parts together 300 W" in said
    said = words(read(snapshot_of(NODE + component("gpu", "GPU-0", 260))).warnings)
    assert "its parts" not in said


def test_components_known_by_different_methods_are_called_mixed() -> None:
    rows = component("cpu", "package-0", 100) + component("dram", "n", 20, "modelled")
    known = read(snapshot_of(rows))
    assert known.power.method == "mixed"
    assert "Power of dram is modelled" in words(known.warnings)
    assert {(row.component, row.method): row.watts for row in known.totals} == {
        ("cpu", "measured"): 100.0,
        ("dram", "modelled"): 20.0,
    }


def test_power_is_split_where_idle_power_is_known() -> None:
    rows = [STATIC, *component("cpu", "package-0", 100), *component("gpu", "GPU-0", 300)]
    power = read(snapshot_of(rows)).power
    assert (power.watts, power.static_watts, power.dynamic_watts) == (400.0, 30.0, 70.0)


def test_a_component_below_its_idle_power_has_no_negative_part() -> None:
    power = read(snapshot_of([STATIC, *component("cpu", "package-0", 25)])).power
    assert (power.static_watts, power.dynamic_watts) == (25.0, 0.0)


def test_nothing_known_is_none_and_never_zero() -> None:
    known = read(snapshot_of([]))
    assert (known.power.watts, known.power.method) == (None, "")
    assert known.power.static_watts is None
    assert "Nothing here reports its power" in words(known.warnings)


def test_a_component_whose_source_is_silent_stays_without_watts() -> None:
    rows = [
        (catalogue.COMPONENT_ENERGY, ("cpu", "package-0", "rapl", "measured"), 9.0),
        *component("dram", "n", 20),
    ]
    cpu, dram = read(snapshot_of(rows)).components
    assert (cpu.component, cpu.watts, cpu.joules) == ("cpu", None, 9.0)
    assert dram.watts == 20.0


def test_a_counter_of_a_meter_that_lost_the_election_is_not_a_second_row() -> None:
    rows = [
        (catalogue.COMPONENT_ENERGY, ("cpu", "package-0", "model", "modelled"), 9.0),
        *component("cpu", "package-0", 20),
    ]
    (row,) = read(snapshot_of(rows)).components
    assert (row.source, row.watts) == ("rapl", 20.0)


def test_limits_use_and_temperatures_are_found() -> None:
    rows = [
        *component("cpu", "package-0", 100),
        (catalogue.COMPONENT_POWER_LIMIT, ("cpu", "package-0", "enforced"), 270.0),
        (catalogue.COMPONENT_POWER_LIMIT, ("cpu", "package-0", "max"), 400.0),
        (catalogue.UTILIZATION, ("cpu", "package-0", "busy"), 0.5),
        (catalogue.TEMPERATURE, ("cpu", "package-0", "die"), 61.0),
    ]
    known = read(snapshot_of(rows))
    assert (known.components[0].limit_watts, known.components[0].utilization) == (270.0, 0.5)
    assert known.temperatures[0].celsius == 61.0


def test_sources_are_up_down_absent_or_waiting() -> None:
    health = [
        Health("cpu", True, channels=3, read_seconds=0.01, last_success_unix_s=1e9),
        Health("rapl", False, Reason.DENIED, "energy_uj", errors=((Reason.DENIED, 4),)),
        Health("hwmon", None, Reason.ABSENT, "no sensor"),
        Health("bmc", None, detail="not read yet"),
    ]
    known = read(snapshot_of([], health))
    assert [source.state for source in known.sources] == ["up", "down", "absent", "waiting"]
    assert known.sources[1].errors == {"DENIED": 4}
    assert known.sources[1].last_success_unix_seconds is None
    assert known.sources[0].last_success_unix_seconds == 1e9


def test_a_denied_source_is_a_warning_with_its_fix() -> None:
    health = [Health("rapl", False, Reason.DENIED, "energy_uj: run as uid 0")]
    known = read(snapshot_of(component("cpu", "package-0", 9, "modelled"), health))
    said = words(known.warnings)
    assert "warning rapl: No readings: it exists but the daemon may not read it" in said
    assert "energy_uj: run as uid 0." in said
    assert "No meter can be read, so power is modelled" in said


@pytest.mark.parametrize("reason", [Reason.LATE, Reason.LOST, Reason.BUG, Reason.GARBLED])
def test_a_failing_source_is_an_error_and_comes_first(reason: Reason) -> None:
    health = [
        Health("a", False, Reason.DENIED, "x"),
        Health("b", False, reason, "y"),
    ]
    first = read(snapshot_of([], health)).warnings[0]
    assert (first.severity, first.source) == ("error", "b")


def test_many_faults_of_one_reason_are_one_sentence() -> None:
    faults = tuple(Fault(FAN, Reason.GARBLED, f"fan{n}: reads 65535", 0) for n in range(30))
    health = [Health("hwmon", True, channels=40, faults=faults)]
    known = read(snapshot_of(component("cpu", "package-0", 9), health))
    said = [notice for notice in known.warnings if notice.source == "hwmon"]
    assert len(said) == 1
    assert said[0].text.startswith("30 of 40 readings missing")
    assert len(known.sources[0].faults) == 20
    assert known.sources[0].faults[0].channel == "chip/fan3"


def test_absent_meters_are_named_only_where_nothing_is_measured() -> None:
    health = [
        Health("rapl", None, Reason.ABSENT, "no powercap"),
        Health("thermal", None, Reason.ABSENT, "no zone"),
    ]
    modelled = words(read(snapshot_of(component("cpu", "p", 9, "modelled"), health)).warnings)
    assert "info rapl: Absent: no powercap." in modelled
    assert "thermal" not in modelled
    assert "rapl" not in words(read(snapshot_of(component("cpu", "p", 9), health)).warnings)


def test_a_simulated_machine_says_so() -> None:
    said = words(read(snapshot_of(component("cpu", "p", 9, "simulated"))).warnings)
    assert "This machine is simulated" in said
    assert "No meter can be read" not in said


def test_before_the_first_reading_nothing_is_complained_of() -> None:
    assert words(read(EMPTY).warnings) == "info power: The first readings are on their way."


def test_meter_events_are_told_except_the_harmless() -> None:
    rows = [
        *component("cpu", "package-0", 9),
        (catalogue.METER_EVENTS, ("rapl", "cpu", "package-0", "wrap"), 4.0),
        (catalogue.METER_EVENTS, ("rapl", "cpu", "package-0", "reset"), 1.0),
        (catalogue.METER_EVENTS, ("rapl", "cpu", "package-0", "gap"), 3.0),
        (catalogue.METER_EVENTS, ("rapl", "cpu", "package-0", "frozen"), 0.0),
    ]
    said = words(read(snapshot_of(rows)).warnings)
    assert "cpu package-0 began to count anew once" in said
    assert "was unread for too long 3 times" in said
    assert "wrap" not in said
    assert "stood still" not in said


def test_status_is_plain_json_with_fields_that_tools_rely_on() -> None:
    health = [Health("rapl", False, Reason.DENIED, "x")]
    snapshot = snapshot_of(component("cpu", "package-0", 100), health, unix_s=1e9)
    known = json.loads(
        json.dumps(status(snapshot, host="n", version="1", uptime_s=2.5), allow_nan=False)
    )
    assert known["ticks"] == 7
    assert known["time_unix_seconds"] == 1e9
    assert known["uptime_seconds"] == 2.5
    assert known["components"][0]["watts"] == 100.0
    assert known["sources"][0]["reason"] == "DENIED"
    assert set(known["warnings"][0]) == {"severity", "source", "text"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cpu", "gpu", "dram"]),
            st.text(max_size=5),
            st.floats(0, 1e6),
            st.sampled_from(["measured", "modelled"]),
        ),
        max_size=8,
        unique_by=lambda row: row[:2],
    )
)
def test_the_total_is_the_sum_of_what_is_listed(rows: list[tuple[str, str, float, str]]) -> None:
    series = [series for row in rows for series in component(*row)]
    known = read(snapshot_of(series))
    listed = sum(row.watts or 0.0 for row in known.components)
    assert (known.power.watts or 0.0) == pytest.approx(listed)
    assert sum(row.watts or 0.0 for row in known.totals) == pytest.approx(listed)
