"""What `make demo` runs besides one machine: a small fleet, its last week, and hurried rules.

Nothing here is measured. The week before the start is computed from the curves of the machines and
handed to Prometheus as blocks, because an alert that compares with last week needs one.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from joulefloor.demo import PLACES, machine, week_ago
from stack.peers import rule_files, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from joulefloor.demo import Gpu, Served
    from stack.processes import Peer
    from stack.programs import Program

CONFIG: Final = Path(__file__).parent / "demo.yaml"
"""The configuration of the first machine; the others differ from it by what `FLEET` says."""
CLUSTER: Final = "demo"
WEEK_S: Final = 7 * 86_400
STEP_S: Final = 240
"""Between samples of the past: Prometheus looks back for five minutes."""
FINE_STEP_S: Final = 15
FINE_S: Final = 3 * 3_600
"""How long after the start of the past the samples are denser: those a run is compared with."""
LEAD_S: Final = 600
LAST_S: Final = 7 * 3_600
"""Age of the last sample of the past: alerts average the last six hours."""
IMPORT_S: Final = 300
INTERVAL_S: Final = 5
WAIT_S: Final = 20
WINDOW_S: Final = 60
"""Of rates that have five minutes as shipped: otherwise watts would rise for so long."""
HURRIED: Final = (
    f"each {INTERVAL_S} s over {WINDOW_S} s, and alerts wait {WAIT_S} s (shipped: 5 min, up to 1 h)"
)
_DURATION: Final = re.compile(r"(\d+)([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Node(NamedTuple):
    """A machine of the demo: its name, its rack, and the settings of its source."""

    name: str
    rack: str
    gpus: int
    models: tuple[str, ...]
    epoch_s: int

    @property
    def labels(self) -> dict[str, str]:
        """What the scrape configuration says of it."""
        return {"instance": self.name, "cluster": CLUSTER, "rack": self.rack}


FLEET: Final = (
    Node("node-1", "a1", 8, PLACES, 0),
    Node("node-2", "a2", 8, (*("gpt-oss-20b",) * 4, *("qwen3-14b",) * 2, "", ""), 40),
    # Nobody holds its GPUs: what the boundary pool spreads over those who work.
    Node("node-3", "a2", 4, ("",), 80),
)


def write_node(node: Node, directory: Path) -> Path:
    """Write the configuration of a machine and return its path."""
    content: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    content["sources"]["simulated"] |= {
        "gpus": node.gpus,
        "models": list(node.models),
        "epoch": f"{node.epoch_s}s",
    }
    return write_config(directory / f"{node.name}.yaml", content)


def scrape_configs(daemons: Sequence[Peer]) -> list[dict[str, object]]:
    """Scrape the fleet's daemons under the names of their machines."""
    static = [
        {"targets": [daemon.address], "labels": node.labels}
        for daemon, node in zip(daemons, FLEET, strict=True)
    ]
    return [{"job_name": "joulefloor", "static_configs": static}]


# -- rules ----------------------------------------------------------------------------------------


def write_rules(folder: Path, directory: Path) -> list[Path]:
    """Copy rule files with nothing changed but time: evaluated often, and no alert waits long."""
    written = []
    for path in rule_files(folder):
        text = path.read_text(encoding="utf-8").replace("[5m]", f"[{WINDOW_S}s]")
        content = yaml.safe_load(text)
        for group in content["groups"]:
            group["interval"] = f"{INTERVAL_S}s"
            for rule in group["rules"]:
                for wait in ("for", "keep_firing_for"):
                    if wait in rule:
                        rule[wait] = f"{min(WAIT_S, seconds(rule[wait]))}s"
        written.append(write_config(directory / path.name, content))
    return written


def seconds(text: str) -> int:
    """Length of a Prometheus duration such as 1h30m, in seconds."""
    return sum(int(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text))


# -- the past -------------------------------------------------------------------------------------


def write_past(promtool: Program, directory: Path, nodes: Sequence[Node] = FLEET) -> bool:
    """Have the last week ready in Prometheus' storage; False where promtool cannot write it."""
    text = directory / "past.openmetrics"
    text.write_text("\n".join((*past(nodes, time.time(), time.monotonic()), "# EOF\n")))
    command: list[str | Path] = [promtool.path, "tsdb", "create-blocks-from", "openmetrics", text]
    (directory / "prometheus").mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            [*command, directory / "prometheus"],
            capture_output=True,
            timeout=IMPORT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        text.unlink()
    return done.returncode == 0


def past(nodes: Sequence[Node], now_unix_s: float, now_monotonic_s: float) -> Iterator[str]:
    """Joules per token and tokens of the week before, before a model changed, as OpenMetrics.

    The curves run on the monotonic clock, as they do in the daemons.
    """
    now = int(now_unix_s)
    first = now - WEEK_S - LEAD_S
    fine = range(first, first + FINE_S, FINE_STEP_S)
    moments = [*fine, *range(fine.stop, now - LAST_S, STEP_S)]
    shift_s = now_monotonic_s - now_unix_s
    rates = {
        served: [_rates(cards, at + shift_s) for at in moments]
        for served, cards in _cards(nodes).items()
    }
    name = "model:joulefloor_joules_per_token:ratio5m"
    yield f"# TYPE {name} gauge"
    for served, values in rates.items():
        labels = f'{{cluster="{CLUSTER}",model="{served.name}",boundary="device"}}'
        for at, (watts, tokens_per_s) in zip(moments, values, strict=True):
            yield f"{name}{labels} {watts / tokens_per_s:.6g} {at}"
    name = "model:joulefloor_tokens:rate5m"
    yield f"# TYPE {name} gauge"
    for served, values in rates.items():
        labels = f'{{cluster="{CLUSTER}",model="{served.name}",direction="output"}}'
        for at, (_, tokens_per_s) in zip(moments, values, strict=True):
            yield f"{name}{labels} {tokens_per_s:.6g} {at}"


def _cards(nodes: Sequence[Node]) -> Mapping[Served, list[tuple[int, Gpu]]]:
    """The GPUs of each model that serves, with how far ahead their machine's day is."""
    found: dict[Served, list[tuple[int, Gpu]]] = {}
    for node in nodes:
        for card in machine(node.gpus, node.models).gpus:
            if card.served.tokens_per_s:
                found.setdefault(card.served, []).append((node.epoch_s, card))
    return found


def _rates(cards: Sequence[tuple[int, Gpu]], t: float) -> tuple[float, float]:
    """Watts and output tokens per second of a model in the window before `t` s."""
    watts = tokens_per_s = 0.0
    for epoch_s, card in cards:
        then = week_ago(card)
        end = t + epoch_s
        watts += (then.watts.integral(end) - then.watts.integral(end - WINDOW_S)) / WINDOW_S
        load = (card.load.integral(end) - card.load.integral(end - WINDOW_S)) / WINDOW_S
        tokens_per_s += load * card.served.tokens_per_s
    return watts, tokens_per_s
