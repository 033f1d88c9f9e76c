"""The committed dashboards as tests see them: panels, expressions, and what Grafana fills in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).resolve().parents[2] / "dashboards"
SCRAPE_S: Final = 1
RANGE_S: Final = 60
FLEET_S: Final = 1800
"""Longer than the tests' fleet lives: alerts begin with it."""


class Ask(NamedTuple):
    """One expression of one panel, variable or annotation, and where a person finds it."""

    where: str
    expr: str
    legend: str = ""
    instant: bool = True
    since_s: float = RANGE_S

    def filled(self, **values: str) -> str:
        """As Grafana sends it: variables (all by default) and intervals filled in."""
        built_in = {
            "__rate_interval": f"{4 * SCRAPE_S}s",
            "__interval": f"{SCRAPE_S}s",
            "__range": f"{RANGE_S}s",
            "__range_s": str(RANGE_S),
        }
        known = dict.fromkeys(("cluster", "job", "instance", "model", "namespace"), ".*")
        known |= {"price": "0.20"} | built_in | values
        return re.sub(r"\$\{?([a-z_]\w*)\}?", lambda found: known[found[1]], self.expr)


class Board(NamedTuple):
    """One dashboard file."""

    path: Path
    content: dict[str, Any]

    @property
    def title(self) -> str:
        """As it stands in Grafana's list."""
        return str(self.content["title"])

    @property
    def panels(self) -> list[dict[str, Any]]:
        """All panels, headings left out."""
        return [panel for panel in self.content["panels"] if panel["type"] != "row"]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """Template variables by name."""
        return {one["name"]: one for one in self.content["templating"]["list"]}

    def asks(self) -> list[Ask]:
        """Every expression of every panel, then those of the annotations."""
        found = [
            Ask(
                f"{self.title} / {panel['title']} [{target['refId']}]",
                target["expr"],
                target.get("legendFormat", ""),
                target.get("instant", False),
            )
            for panel in self.panels
            for target in panel.get("targets", [])
        ]
        return found + [
            Ask(
                f"{self.title} / annotation {one['name']}",
                one["expr"],
                instant=False,
                since_s=FLEET_S,
            )
            for one in self.content["annotations"]["list"]
        ]

    def choices(self) -> list[tuple[str, str, str]]:
        """Variables that ask for label values: (where, selector, label)."""
        found = []
        for name, one in self.variables.items():
            if one["type"] == "query":
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"]["query"])
                assert match is not None, f"{self.title}: variable {name}"
                where = f"{self.title} / variable {name}"
                found.append((where, Ask(where, match[1]).filled(), match[2]))
        return found


def boards() -> list[Board]:
    """The committed dashboards."""
    return [
        Board(path, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(FOLDER.glob("*.json"))
    ]
