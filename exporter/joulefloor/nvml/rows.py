"""The series of one GPU, made once and used in every round."""

from __future__ import annotations

from typing import NamedTuple

from joulefloor import catalogue
from joulefloor.model import Measures
from joulefloor.nvml.table import (
    COMPONENT,
    COUNTER,
    FIELDS,
    GAUGES,
    INTEGRAL,
    MEMORY_SCOPE,
    MODULE,
    MODULE_SCOPE,
    PER_MILLI,
    POWER_AVERAGE,
    POWER_INSTANT,
    Row,
    level,
)


class Identity(NamedTuple):
    """Names of a GPU as the driver gives them; `board` is shared by GPUs on one module."""

    uuid: str
    name: str
    board: str


class Entry(NamedTuple):
    """A field with its capability, series, (field id, scope) and factor to base units.

    `instead_of`: capabilities in whose place it is read, only while all of them are missing.
    """

    key: str
    row: Row
    field: tuple[int, int]
    factor: float
    instead_of: tuple[str, ...] = ()


class Rows:
    """All of them that are always there."""

    def __init__(self, identity: Identity, bound_watts: float, *, full: bool) -> None:
        """`bound_watts`: no real power of this GPU is above it. `full`: all that can be read."""
        uuid, measured = identity.uuid, "measured"
        component = (COMPONENT, uuid)
        module = (MODULE, f"board-{identity.board}", MODULE)
        energy, part = catalogue.COMPONENT_ENERGY.name, catalogue.PART_ENERGY.name
        counts, draws = Measures.ENERGY.name, Measures.POWER.name
        self.energy = Row(energy, (*component, COUNTER, measured), counts, bound_watts)
        self.power = Row(energy, (*component, INTEGRAL, measured), draws, bound_watts)
        self.module_energy = Row(part, (*module, COUNTER, measured), counts)
        self.info = level(catalogue.DEVICE_INFO, uuid, "nvidia", identity.name)
        self.limits = tuple(
            level(catalogue.COMPONENT_POWER_LIMIT, uuid, limit) for limit in ("min", "max")
        )
        self.update_period = Row(catalogue.METER_UPDATE.name, (INTEGRAL, COMPONENT, uuid))
        self.sm_clock = level(catalogue.CLOCK, uuid, "sm")
        self.gauges = tuple(
            (entry.key, level(entry.metric, uuid, *entry.labels), *entry[3:6])
            for entry in GAUGES
            if full or not entry.detail
        )
        self.memory = tuple(level(catalogue.MEMORY, uuid, state) for state in ("used", "total"))
        self.utilization = tuple(
            level(catalogue.UTILIZATION, uuid, engine) for engine in ("busy", "kernel", "memory")
        )
        memory_row = Row(part, (*component, "memory", INTEGRAL, measured), draws, bound_watts)
        module_row = Row(part, (*module, INTEGRAL, measured), draws)
        memory = Entry("power_memory", memory_row, (POWER_AVERAGE, MEMORY_SCOPE), PER_MILLI)
        self.fields = (
            *((memory,) if full else ()),
            Entry("power_module", module_row, (POWER_INSTANT, MODULE_SCOPE), PER_MILLI),
            *(
                Entry(
                    field.key,
                    level(field.metric, uuid, *field.labels),
                    (field.number, field.scope),
                    field.factor,
                    field.instead_of,
                )
                for field in FIELDS
                if full or not field.detail
            ),
        )
