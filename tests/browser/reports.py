"""What came back from drawing a dashboard: the page's evidence, and the complaints it supports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Theme = Literal["dark", "light"]


@dataclass(frozen=True, slots=True)
class Legend:
    """The legend of one panel as a reader sees it."""

    texts: tuple[str, ...]
    truncated: tuple[str, ...]
    """Names that are cut off."""
    hidden: int
    """Entries below the visible part of a legend that scrolls."""
    overflow: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel as drawn."""

    id: int
    title: str
    type: str
    state: Literal["done", "loading"]
    series: int
    """Number fields with at least one finite value, after transformations."""
    frames: int
    rows: int
    error: str
    """Query, plugin and rendering errors, empty when there are none."""
    units: tuple[str, ...]
    unknown_units: tuple[str, ...]
    unit_known: bool
    unknown_properties: tuple[str, ...]
    """Field properties and overrides that the panel type does not have."""
    unknown_transformations: tuple[str, ...]
    unmatched_overrides: tuple[str, ...]
    """Names in by-name overrides that no field carries."""
    queries: tuple[str, ...]
    """Expressions as Prometheus received them, variables and intervals filled in."""
    legend: Legend
    values: tuple[str, ...]
    """Formatted last values, table cells, or the text of a text panel."""
    ticks: tuple[tuple[str, ...], ...]
    """Axis labels of a time series, the time axis first."""
    clipped: tuple[str, ...]
    """Texts that have less room than they need."""
    scrolls: bool
    """Part of the panel, its legend aside, is reached by scrolling down only."""
    wide: bool
    """Part of the panel, such as a table's last column, is reached by scrolling sideways only."""
    empty: bool
    """No data and no error."""

    def complaints(self) -> list[str]:
        """What is wrong with this panel, one cause each."""
        asked = " and ".join(self.queries) or "no query"
        return [
            cause
            for holds, cause in (
                (self.state != "done", "still loading"),
                (self.error, f"error: {self.error} ({asked})"),
                (self.empty, f"no data from {asked}"),
                (self.unknown_units, f"unknown units {list(self.unknown_units)}"),
                (self.unknown_properties, f"unknown properties {list(self.unknown_properties)}"),
                (
                    self.unknown_transformations,
                    f"unknown transformations {list(self.unknown_transformations)}",
                ),
                (self.title in self.clipped, "title cut off"),
                (
                    self.legend.truncated,
                    f"legend entries cut off {list(self.legend.truncated)}",
                ),
                (self.legend.hidden, f"{self.legend.hidden} legend entries out of sight"),
            )
            if holds
        ]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Takes one panel of the page's report."""
        legend = raw["legend"]
        return cls(
            id=raw["id"],
            title=raw["title"],
            type=raw["type"],
            state=raw["state"],
            series=raw["series"],
            frames=raw["frames"],
            rows=raw["rows"],
            error=raw["error"],
            units=tuple(raw["units"]),
            unknown_units=tuple(raw["unknownUnits"]),
            unit_known=raw["unitKnown"],
            unknown_properties=tuple(raw["unknownProperties"]),
            unknown_transformations=tuple(raw["unknownTransformations"]),
            unmatched_overrides=tuple(raw["unmatchedOverrides"]),
            queries=tuple(raw["queries"]),
            legend=Legend(
                tuple(legend["texts"]),
                tuple(legend["truncated"]),
                legend["hidden"],
                legend["overflow"],
            ),
            values=tuple(raw["values"]),
            ticks=tuple(tuple(axis) for axis in raw["ticks"]),
            clipped=tuple(raw["clipped"]),
            scrolls=raw["scrolls"],
            wide=raw["wide"],
            empty=raw["empty"],
        )


@dataclass(frozen=True, slots=True)
class Variable:
    """One template variable after its query was answered."""

    name: str
    type: str
    options: int
    """Values to choose from; a variable without a list (text box, constant) counts 1."""
    value: object
    text: object
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """One dashboard as drawn."""

    source: Path
    title: str
    uid: str
    theme: Theme
    width: int
    """Pixels of the window."""
    height: int
    """Pixels of the whole dashboard."""
    complete: bool
    """Every panel and variable had its answer in time."""
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...]
    console: tuple[str, ...]
    """Errors that the page printed."""
    seconds: float
    png: Path
    raw: dict[str, Any] = field(repr=False, compare=False)

    def panel(self, title: str) -> Panel:
        """Finds a panel by its title; raises KeyError when there is none."""
        for panel in self.panels:
            if panel.title == title:
                return panel
        raise KeyError(title)

    def variable(self, name: str) -> Variable:
        """Finds a variable by its name; raises KeyError when there is none."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise KeyError(name)

    @classmethod
    def read(cls, raw: dict[str, Any], source: Path, png: Path) -> Self:
        """Takes the page's report of one dashboard."""
        return cls(
            source=source,
            title=raw["title"],
            uid=raw["uid"],
            theme=raw["theme"],
            width=raw["width"],
            height=raw["height"],
            complete=raw["complete"],
            panels=tuple(Panel.read(panel) for panel in raw["panels"]),
            variables=tuple(
                Variable(v["name"], v["type"], v["options"], v["value"], v["text"], v["error"])
                for v in raw["variables"]
            ),
            console=tuple(raw["console"]),
            seconds=raw["seconds"],
            png=png,
            raw=raw,
        )


def complaints(report: Report) -> list[str]:
    """What a test holds against a drawing, one line each, naming panel and cause."""
    found = [f"{report.title}: the page said: {line}" for line in report.console]
    if not report.complete:
        found.append(f"{report.title}: not every query was answered in time")
    found += [
        f"{report.title}: variable {variable.name}: {variable.error or 'no options'}"
        for variable in report.variables
        if variable.error or variable.options == 0
    ]
    for panel in report.panels:
        where = f"{report.title} / {panel.title or panel.id}"
        found += [f"{where}: {cause}" for cause in panel.complaints()]
    return found
