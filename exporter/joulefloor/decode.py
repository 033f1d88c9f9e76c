"""YAML nodes into frozen dataclasses: every problem at once, each with its line and a remedy.

A field's type says what is allowed: bool, int, float, str, a unit from `units` ("1s", "40W",
"25degC"), `tuple[T, ...]`, `Mapping[str, T]`, or another dataclass. Quantities need their unit.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from joulefloor.errors import Problem
from joulefloor.units import ZERO_CELSIUS_IN_KELVIN, Celsius, Joules, Seconds, Watts

if TYPE_CHECKING:
    from typing import Protocol

    class Mark(Protocol):
        """Where a node begins."""

        line: int

    class Node(Protocol):
        """What is used of a YAML node."""

        id: str
        tag: str
        value: Any
        start_mark: Mark


T = TypeVar("T")


class _Unit:
    """A quantity that people write with its unit."""

    def __init__(self, noun: str, example: str, factors: dict[str, float]) -> None:
        self.noun = noun
        self.example = example
        self.factors = factors


_UNITS: dict[object, _Unit] = {
    Seconds: _Unit("duration", "500ms, 1s, 2m", {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}),
    Watts: _Unit("power", "500mW, 40W, 1.2kW", {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}),
    Joules: _Unit("energy", "10J, 3kJ, 1kWh", {"J": 1.0, "kJ": 1e3, "MJ": 1e6, "kWh": 3.6e6}),
    Celsius: _Unit("temperature", "25degC, 298K", {"degC": 1.0, "C": 1.0, "K": 1.0}),
}
_QUANTITY = re.compile(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_TAG = "tag:yaml.org,2002:"


class Decoder:
    """Decodes one document and collects its problems; `file` is named in each."""

    def __init__(self, file: str) -> None:
        """No problem yet."""
        self.file = file
        self.problems: list[Problem] = []

    def problem(self, node: Node, path: str, what: str) -> None:
        """Note a problem at a node: FILE:LINE and the key's path."""
        where = f"{self.file}:{node.start_mark.line + 1}"
        self.problems.append(Problem(where, f"{path}: {what}" if path else what))

    def entries(self, node: Node, path: str) -> dict[str, tuple[Node, Node]]:
        """Key to (key node, value node) of a mapping; an empty value counts as an empty mapping."""
        if node.id == "scalar" and node.tag == _TAG + "null":
            return {}
        if node.id != "mapping":
            self.problem(node, path, f"expected keys and values, found a {node.id}")
            return {}
        entries: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in entries:
                self.problem(key, _join(path, name), "is given twice")
            entries[name] = (key, value)
        return entries

    def unknown(self, key: Node, path: str, known: list[str]) -> None:
        """Note an unknown key with the nearest right one."""
        from difflib import get_close_matches  # noqa: PLC0415  # only for a mistake

        near = get_close_matches(str(key.value), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
        self.problem(key, _join(path, str(key.value)), f"unknown key{hint}")

    def decode(self, cls: type[T], node: Node, path: str = "", reserved: tuple[str, ...] = ()) -> T:
        """The dataclass `cls` from a mapping; defaults stand where there was a problem.

        Keys in `reserved` belong to somebody else.
        """
        hints = get_type_hints(cls)
        entries = self.entries(node, path)
        values: dict[str, Any] = {}
        for name, (key, value) in entries.items():
            if name in reserved:
                continue
            if name not in hints:
                self.unknown(key, path, [*reserved, *sorted(hints)])
                continue
            before = len(self.problems)
            decoded = self.value(hints[name], value, _join(path, name))
            if len(self.problems) == before:
                values[name] = decoded
        try:
            return cls(**values)
        except ValueError as error:
            self.problem(node, path, str(error))
            return cls()

    def value(self, hint: object, node: Node, path: str) -> object:
        """One value of the hinted type; None after a problem."""
        unit = _UNITS.get(hint)
        if unit is not None:
            return self._quantity(hint, unit, node, path)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.decode(hint, node, path)
        origin = get_origin(hint)
        if origin in {Union, types.UnionType}:
            return self._optional(hint, node, path)
        if origin is tuple:
            return self._tuple(get_args(hint)[0], node, path)
        if origin is Mapping:
            inner = get_args(hint)[1]
            return {
                name: self.value(inner, value, _join(path, name))
                for name, (_, value) in self.entries(node, path).items()
            }
        return self._scalar(hint, node, path)

    def _optional(self, hint: object, node: Node, path: str) -> object:
        if node.id == "scalar" and node.tag == _TAG + "null":
            return None
        inner = next(kind for kind in get_args(hint) if kind is not type(None))
        return self.value(inner, node, path)

    def _tuple(self, inner: object, node: Node, path: str) -> object:
        if node.id != "sequence":
            self.problem(node, path, f"expected a list, found a {node.id}")
            return None
        return tuple(
            self.value(inner, item, f"{path}[{index}]") for index, item in enumerate(node.value)
        )

    def _quantity(self, hint: object, unit: _Unit, node: Node, path: str) -> object:
        text = str(node.value) if node.id == "scalar" else ""
        match = _QUANTITY.fullmatch(text.strip())
        if match is None or (match[2] and match[2] not in unit.factors):
            known = ", ".join(unit.factors)
            what = f"expected a {unit.noun} such as {unit.example}, found {text or node.id!r}"
            self.problem(node, path, f"{what} (units: {known})")
            return None
        if not match[2]:
            self.problem(node, path, f"{text} has no unit; write for example {unit.example}")
            return None
        value = float(match[1]) * unit.factors[match[2]]
        if match[2] == "K":
            value -= ZERO_CELSIUS_IN_KELVIN
        if hint is not Celsius and value < 0:
            self.problem(node, path, f"a {unit.noun} cannot be negative: {text}")
            return None
        return value

    def _scalar(self, hint: object, node: Node, path: str) -> object:
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        tags = {bool: ("bool",), int: ("int",), float: ("int", "float"), str: ("str",)}
        if not isinstance(hint, type) or hint not in names:
            raise TypeError(f"{path}: settings of type {hint} cannot be decoded")
        tag = node.tag.removeprefix(_TAG)
        if node.id != "scalar" or tag not in tags[hint]:
            found = repr(str(node.value)) if node.id == "scalar" else f"a {node.id}"
            self.problem(node, path, f"expected {names[hint]}, found {found}")
            return None
        if hint is bool:
            return str(node.value).lower() in {"true", "yes", "on"}
        try:
            return hint(str(node.value).replace("_", "")) if hint is not str else node.value
        except ValueError:
            self.problem(node, path, f"expected {names[hint]}, found {str(node.value)!r}")
            return None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
