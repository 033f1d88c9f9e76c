"""Temperatures that physics refers to, and the Landauer floor at them. Pure.

The default reference is the heat sink (inlet air or coolant): with ideal cooling the least heat per
erased bit is k T_sink ln 2 whatever the chip temperature, since a colder chip pays the difference
in cooling work. The floor at the die temperature is exported beside it where a die is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.physics import landauer_joules_per_bit
from joulefloor.units import ZERO_CELSIUS_IN_KELVIN, kelvin_from_celsius

if TYPE_CHECKING:
    from joulefloor.board import Board, Cell

OWNER = "floor"
SINK_SENSORS = frozenset({"inlet", "coolant_supply"})
DIE_SENSOR = "die"


class Floor:
    """Keeps the reference temperature and the floors up to date."""

    def __init__(self, board: Board, sink_celsius: float) -> None:
        """`sink_celsius` is used, and labelled `configured`, while no inlet sensor reads."""
        self._board = board
        self._configured = kelvin_from_celsius(sink_celsius)
        self._sinks: dict[tuple[str, ...], Cell] = {}
        self._dies: dict[tuple[str, str], Cell] = {}
        self._floors: dict[tuple[str, str], Cell] = {}

    def watch(self, cell: Cell) -> None:
        """Take note of a temperature series that matters here."""
        component, device, sensor = cell.labels
        if sensor in SINK_SENSORS:
            self._sinks[cell.labels] = cell
        elif sensor == DIE_SENSOR:
            self._dies[component, device] = cell

    def add_device(self, component: str, device: str) -> None:
        """A device that burns energy gets a floor."""
        labels = (component, device, "sink")
        self._floors[component, device] = self._board.cell(catalogue.LANDAUER, labels, OWNER)

    def close(self) -> None:
        """Write reference temperature and floors of this tick."""
        board = self._board
        temperatures = [
            value
            for cell in self._sinks.values()
            if (value := _above_zero(board, cell)) is not None
        ]
        measured = bool(temperatures)
        sink = self._configured
        if measured:
            sink = kelvin_from_celsius(sum(temperatures) / len(temperatures))
        for method, value in (("measured", measured), ("configured", not measured)):
            cell = board.cell(catalogue.REFERENCE_TEMPERATURE, ("sink", method), OWNER)
            if value:
                board.put(cell, sink)
            else:
                board.clear(cell)
        floor = landauer_joules_per_bit(sink)
        for place, cell in self._floors.items():
            board.put(cell, floor)
            die = self._dies.get(place)
            if die is not None:
                self._write_die(*place, _above_zero(board, die))

    def _write_die(self, component: str, device: str, celsius: float | None) -> None:
        cell = self._board.cell(catalogue.LANDAUER, (component, device, "die"), OWNER)
        if celsius is None:
            self._board.clear(cell)
        else:
            self._board.put(cell, landauer_joules_per_bit(kelvin_from_celsius(celsius)))


def _above_zero(board: Board, cell: Cell) -> float | None:
    """Degrees Celsius of a sensor that reads something possible."""
    if cell.slot < 0:
        return None
    value = board.value(cell)
    return value if value is not None and value > -ZERO_CELSIUS_IN_KELVIN else None
