"""Failures that exporters of this field show on these very machines; here none costs a joule.

Each machine is read by the real sources through the real ledger; "truth" is what was burnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor import catalogue
from joulefloor.catalogue import COMPONENT_ENERGY, COMPONENT_POWER, METER_EVENTS, NODE_ENERGY
from tests.machine import Machine
from tests.player import Player

if TYPE_CHECKING:
    from pathlib import Path

ZONES = "sys/devices/virtual/powercap"
PACKAGE_0 = f"{ZONES}/intel-rapl/intel-rapl:0/energy_uj"
ACPI = "sys/devices/LNXSYSTM:00/ACPI000D:00/power1_average"
RAPL_0 = ("cpu", "package-0", "rapl", "measured")


@pytest.fixture
def intel(tmp_path: Path) -> Player:
    return Player(Machine(tmp_path, host_file="intel-2s"))


def total(player: Player, component: str) -> float:
    """Joules of a component over all its series: what `sum()` would give."""
    energies = player.series(COMPONENT_ENERGY).items()
    return sum(joules for labels, joules in energies if labels[0] == component)


def run(player: Player, ticks: int, joules: float = 50.0, busy: float = 0.5) -> None:
    for _ in range(ticks):
        player.burn(joules, busy, 1.0)
        player.tick()


def test_a_reset_from_5000_to_10_joules_is_an_event_and_no_energy(intel: Player) -> None:
    intel.machine.write(PACKAGE_0, 4_900_000_000)
    intel.tick()
    run(intel, 2)
    intel.machine.write(PACKAGE_0, 10_000_000)
    intel.tick()
    run(intel, 4)
    assert intel.series(COMPONENT_ENERGY)[RAPL_0] == pytest.approx(2 * 50 + 4 * 50)
    assert intel.series(METER_EVENTS)[("rapl", "cpu", "package-0", "reset")] == 1


def test_a_transient_read_error_loses_no_joule_and_hides_no_other_zone(intel: Player) -> None:
    intel.tick()
    run(intel, 3)
    good = intel.machine.host.text(PACKAGE_0)
    intel.machine.write(PACKAGE_0, b"")
    intel.tick()
    power = intel.series(COMPONENT_POWER)
    assert RAPL_0 not in power
    assert ("cpu", "package-1", "rapl", "measured") in power
    intel.machine.write(PACKAGE_0, int(good) + 100_000_000)
    intel.tick()
    assert intel.series(COMPONENT_ENERGY)[RAPL_0] == pytest.approx(3 * 50 + 100)
    assert intel.series(COMPONENT_POWER)[RAPL_0] == pytest.approx(50)


def test_mmio_repeats_package_and_dram_and_neither_counts_twice(intel: Player) -> None:
    intel.tick()
    run(intel, 10, joules=2.0)
    assert total(intel, "dram") == pytest.approx(2 * 2 * 10)
    assert total(intel, "cpu") == pytest.approx(2 * 2 * 10)
    others = intel.series(catalogue.ALTERNATE_ENERGY)
    assert others[("component", "dram", "package-0", "rapl-mmio", "measured")] == pytest.approx(20)


def test_mirrored_dies_show_one_socket(tmp_path: Path) -> None:
    player = Player(Machine(tmp_path, host_file="amd-zen2-dies"))
    player.tick()
    run(player, 30, joules=68.0)
    assert total(player, "cpu") == pytest.approx(68 * 30)
    shown = player.series(COMPONENT_POWER)
    assert [watts for labels, watts in shown.items() if labels[0] == "cpu"] == [pytest.approx(68)]
    mirrored = [labels for labels in player.series(METER_EVENTS) if labels[3] == "mirrored"]
    assert len(mirrored) == 1


def test_a_foreign_zone_without_a_range_neither_stops_nor_joins_rapl(tmp_path: Path) -> None:
    player = Player(Machine(tmp_path, host_file="foreign-powercap"), "rapl")
    player.tick()
    run(player, 5, joules=10.0)
    assert total(player, "cpu") == pytest.approx(50)
    assert all(labels[2].startswith("rapl") for labels in player.series(COMPONENT_ENERGY))


def test_grace_rails_are_named_nested_and_summed_once(tmp_path: Path) -> None:
    player = Player(Machine(tmp_path, host_file="grace-c2"), "hwmon")
    for _ in range(11):
        player.tick()
    machine = player.machine
    rails = {}
    for number in range(8):
        folder = f"sys/devices/LNXSYSTM:00/ACPI000D:{number:02x}"
        name = machine.host.text_or(f"{folder}/power1_oem_info", "")
        rails[name] = machine.host.integer(f"{folder}/power1_average") / 1e6 if name else 0.0
    grace = rails["Grace Power Socket 0"] + rails["Grace Power Socket 1"]
    module = rails["Module Power Socket 0"] + rails["Module Power Socket 1"]
    shown = player.series(COMPONENT_POWER)
    assert sum(watts for labels, watts in shown.items() if labels[0] == "cpu") == pytest.approx(
        grace
    )
    assert sum(player.series(catalogue.NODE_POWER).values()) == pytest.approx(module)
    assert {labels[2] for labels in player.series(catalogue.PART_POWER)} == {"core", "sysio"}


def test_a_frozen_acpi_meter_adds_no_energy_once_it_is_dead(intel: Player) -> None:
    for second in range(10):
        intel.machine.write(ACPI, (412 + second % 2) * 1_000_000)
        run(intel, 1, busy=0.2)
    alive = sum(intel.series(NODE_ENERGY).values())
    assert alive == pytest.approx(412.5 * 9)
    for second in range(180):
        run(intel, 1, busy=0.9 if second % 20 < 10 else 0.1)
    assert sum(intel.series(NODE_ENERGY).values()) == pytest.approx(alive, abs=413)
    assert intel.series(catalogue.NODE_POWER) == {}
    assert any(labels[3] == "frozen" for labels in intel.series(METER_EVENTS))


def test_the_acpi_sentinel_for_unknown_is_no_power(intel: Player) -> None:
    intel.machine.write(ACPI, 4_294_967_295)
    for _ in range(5):
        run(intel, 1)
    assert intel.series(catalogue.NODE_POWER) == {}
    assert sum(intel.series(NODE_ENERGY).values()) == 0


def test_a_fully_idle_interval_resets_nothing(intel: Player) -> None:
    intel.tick()
    run(intel, 3)
    before = total(intel, "cpu")
    run(intel, 3, joules=0.0, busy=0.0)
    assert total(intel, "cpu") == pytest.approx(before)
    run(intel, 1)
    assert total(intel, "cpu") == pytest.approx(before + 100)


def test_one_zone_denied_costs_only_its_own_series(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file="intel-2s")
    for path in machine.root.rglob("energy_uj"):
        if path.is_file() and "intel-rapl:1/energy_uj" not in str(path):
            path.chmod(0o444)
    player = Player(machine, "rapl")
    for _ in range(4):
        player.burn(50.0, 0.5, 1.0)
        with machine.as_nobody():
            player.tick()
    names = {labels[1] for labels in player.series(COMPONENT_ENERGY) if labels[0] == "cpu"}
    assert names == {"package-0"}
    assert player.series(catalogue.SOURCE_FAULTS)[("rapl", "DENIED")] >= 1
    assert player.series(catalogue.SOURCE_UP)[("rapl",)] == 1


def test_a_package_that_vanishes_and_returns_renumbered_goes_on(intel: Player) -> None:
    """CPU hotplug: intel-rapl:1 goes and comes back as intel-rapl:2 under the same name."""
    intel.tick()
    run(intel, 3)
    root = intel.machine.root
    old = root / f"{ZONES}/intel-rapl/intel-rapl:1"
    new = root / f"{ZONES}/intel-rapl/intel-rapl:2"
    (root / "sys/class/powercap/intel-rapl:1").unlink()
    old.rename(new)
    for child in new.glob("intel-rapl:1:*"):
        (root / f"sys/class/powercap/{child.name}").unlink(missing_ok=True)
        renamed = child.rename(child.with_name(child.name.replace(":1:", ":2:")))
        link = root / f"sys/class/powercap/{renamed.name}"
        link.symlink_to(f"../../devices/virtual/powercap/intel-rapl/intel-rapl:2/{renamed.name}")
    link = root / "sys/class/powercap/intel-rapl:2"
    link.symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:2")
    before = intel.series(COMPONENT_ENERGY)[("cpu", "package-1", "rapl", "measured")]
    for _ in range(70):
        run(intel, 1, joules=1.0)
    after = intel.series(COMPONENT_ENERGY)[("cpu", "package-1", "rapl", "measured")]
    assert after == pytest.approx(before + 70, abs=2)
