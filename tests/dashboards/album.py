"""Takes the pictures in docs/images/: `python -m tests.dashboards.album [MINUTES]`.

They show the tests' fleet: real daemons, one of them simulated, scraped by a real Prometheus.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from stack.peers import start_prometheus
from tests.browser.draw import draw
from tests.browser.reports import complaints
from tests.dashboards.board import FOLDER, SCRAPE_S
from tests.dashboards.fleet import NODES, fleet, hurried_rules, scraping
from tests.prom.required import require

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES: Final = FOLDER.parent / "docs" / "images"
WIDE: Final = 1600
PHONE: Final = 420
ALIVE: Final = [node.name for node in NODES]


class Shot(NamedTuple):
    """One picture: file name, dashboard, width and height in pixels, and the chosen nodes."""

    name: str
    dashboard: str
    width: int
    height: int | None
    nodes: list[str]


SHOTS: Final = (
    Shot("overview", "joulefloor-overview", WIDE, None, ALIVE),
    Shot("node", "joulefloor-node", WIDE, 1160, ["node-1"]),
    Shot("meters", "joulefloor-meters", WIDE, 1360, ALIVE),
    Shot("accelerators", "joulefloor-accelerators", WIDE, 960, ALIVE),
    Shot("workloads", "joulefloor-workloads", WIDE, 1040, ALIVE),
    Shot("inference", "joulefloor-inference", WIDE, 950, ALIVE),
    Shot("landauer", "joulefloor-landauer", WIDE, 1420, ALIVE),
    Shot("overview-phone", "joulefloor-overview", PHONE, 1500, ALIVE),
)


def main(arguments: Sequence[str]) -> int:
    """Let the fleet run, draw, and print what is wrong with the pictures."""
    minutes = float(arguments[0]) if arguments else 20.0
    with tempfile.TemporaryDirectory(prefix="joulefloor-album-") as place:
        folder = Path(place)
        rules = hurried_rules(folder, waiting=True)
        with fleet(folder / "nodes") as targets:
            config = scraping(targets, rules)
            with start_prometheus(require("prometheus", major=3), folder, config) as prometheus:
                time.sleep(minutes * 60)
                for shot in SHOTS:
                    take(shot, prometheus.url, folder, minutes)
    return 0


def take(shot: Shot, url: str, folder: Path, minutes: float) -> None:
    """Draw one picture and keep it under its name."""
    (report,) = draw(
        [FOLDER / f"{shot.dashboard}.json"],
        url,
        folder / shot.name,
        width=shot.width,
        height=shot.height,
        # From before the start, so that what happened at the start counts.
        from_=f"now-{minutes + 1:.0f}m",
        variables={"instance": shot.nodes},
        scrape_interval=f"{SCRAPE_S}s",
    )
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / f"{shot.name}.png").write_bytes(report.png.read_bytes())
    sys.stdout.writelines(f"{shot.name}: {line}\n" for line in complaints(report))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
