"""`make run` and `make demo`: the daemon, Prometheus and Alertmanager together on loopback.

Nothing is left behind: data lies in a temporary folder, and every server started here is stopped
on Ctrl-C, on SIGTERM, and when one of them dies.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack import demo, programs
from stack.grafana import PROVISIONING, start_grafana
from stack.peers import prometheus_config, rule_files, start_alertmanager, start_prometheus
from stack.processes import LOOPBACK, Peer, PeerError, Stopped, free_port, launch
from stack.query import QueryError, answers, instant
from stack.receiver import AlertReceiver, changes, show
from stack.report import read_gaps, read_meters, word_links, word_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stack.programs import Program

DAEMON_PORT: Final = 13806
PROMETHEUS_PORT: Final = 9090
ALERTMANAGER_PORT: Final = 9093
SCRAPE_S: Final = 5
FIRST_WATT_S: Final = 30.0
FIRST_SCRAPE_S: Final = 60.0
ALERTS: Final = programs.ROOT / "alerts"


@dataclass(slots=True)
class Run:
    """One run: what was asked for, what was started, and what the person is told."""

    options: argparse.Namespace
    directory: Path
    started: ExitStack
    asked: threading.Event
    peers: list[Peer] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    alerting: bool = False

    def keep(self, peer: Peer) -> Peer:
        """Have a started server stopped at the end."""
        self.started.enter_context(peer)
        self.peers.append(peer)
        return peer

    def wait_for(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Poll until something holds; False when it does not in time.

        Raises:
            PeerError: a server died meanwhile.
            Stopped: the person asked to stop.
        """
        deadline = time.monotonic() + within_s
        while True:
            self.check()
            if holds():
                return True
            if time.monotonic() > deadline:
                return False
            if self.asked.wait(0.2):
                raise Stopped

    def check(self) -> None:
        """See that every server still runs.

        Raises:
            PeerError: one does not; names it and shows its last lines.
        """
        for peer in self.peers:
            if peer.died():
                raise PeerError(f"{peer.name} ended, so everything stops. Its log:\n{peer.tail()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until asked to stop; return the exit code."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    options = parse_options(arguments)
    # Alerts must be seen as they arrive, also through a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with ExitStack() as started:
        directory = started.enter_context(tempfile.TemporaryDirectory(prefix="joulefloor-"))
        run = Run(options, Path(directory), started, asked)
        try:
            start_everything(run)
            if options.once:
                return 0
            print(f"\n{'Alerts appear below. ' if run.alerting else ''}Ctrl-C stops everything.\n")
            while not asked.wait(1):
                run.check()
        except Stopped:
            pass
        except (PeerError, QueryError) as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    print("\nEverything is stopped.")
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stack.run", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="a simulated fleet under load")
    parser.add_argument("--once", action="store_true", help="print the report, then stop")
    parser.add_argument("--config", type=Path, help="configuration file of the daemon")
    parser.add_argument(
        "--daemon",
        type=Path,
        default=Path(sys.executable).parent / "joulefloor",
        help="the daemon's program; default: the one beside this Python",
    )
    parser.add_argument(
        "--programs",
        type=programs.parse_places,
        metavar="DIR:DIR",
        help="look for servers only here; default: PATH, the system's folders and .tools/",
    )
    parser.add_argument("--no-install", action="store_true", help="never call apt-get")
    return parser.parse_args(arguments)


def start_everything(run: Run) -> None:
    """Start what there is, wait until it works, and print the report.

    Raises:
        PeerError: a server died or never became ready.
        Stopped: the person asked to stop.
    """
    found, missing = gather(run)
    daemons = start_daemons(run)
    first = daemons[0].url
    run.wait_for(lambda: bool(read_meters(first)), FIRST_WATT_S)
    meters, gaps = read_meters(first), read_gaps(first)
    print(word_report(meters, gaps, demo=run.options.demo), end="\n\n")
    if "prometheus" in found:
        watch(run, daemons, found)
    print(word_links(run.links))
    if missing:
        print(f"\n{missing}")


def gather(run: Run) -> tuple[dict[str, Program], str]:
    """Find Prometheus and Alertmanager, installing them as root; word what stays missing."""
    names = list(programs.DEBIAN_PACKAGES)

    def search() -> dict[str, Program]:
        places = run.options.programs
        located = {name: programs.locate(name, places=places) for name in names}
        return {name: program for name, program in located.items() if program is not None}

    found = search()
    absent = [name for name in names if name not in found]
    if absent and programs.can_install() and not run.options.no_install:
        print(f"Installing {' and '.join(absent)} from the system's packages, this once ...")
        programs.install(absent, run.directory / "apt.log")
        if run.asked.is_set():
            raise Stopped
        found = search()
        absent = [name for name in names if name not in found]
    if not absent:
        return found, ""
    hint = programs.installing_hint(absent)
    return found, f"Not found: {', '.join(absent)}. Run '{hint}', then start this again."


def start_daemons(run: Run) -> list[Peer]:
    """Start the daemon, or one per machine of the demo, and wait until each has ticked."""
    if not run.options.demo:
        daemon = start_daemon(run, "joulefloor", run.options.config)
        run.links += [("live page", f"{daemon.url}/"), ("metrics", f"{daemon.url}/metrics")]
        return [daemon]
    daemons = []
    for number, node in enumerate(demo.FLEET):
        config = demo.write_node(node, run.directory)
        daemons.append(start_daemon(run, f"joulefloor-{node.name}", config, DAEMON_PORT + number))
    first, *others = (daemon.url for daemon in daemons)
    pages = ", ".join(f"{url}/" for url in others)
    run.links += [
        ("live page", f"{first}/  (others: {pages})"),
        ("metrics", f"{first}/metrics"),
    ]
    return daemons


def start_daemon(run: Run, name: str, config: Path | None, port: int = DAEMON_PORT) -> Peer:
    """Start one daemon, at that port if it is free, and wait until it has ticked."""
    port = free_port(port)
    command = [
        run.options.daemon,
        "run",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=info",
    ]
    if config is not None:
        command.append(f"--config.file={config.resolve()}")
    peer = run.keep(launch(name, command, port=port, directory=run.directory))
    return peer.await_ready("/readyz", stop=run.asked)


def watch(run: Run, daemons: Sequence[Peer], found: dict[str, Program]) -> None:
    """Start Prometheus over the daemons, with Alertmanager and Grafana where there are any."""
    alertmanager = watch_alerts(run, found) if "alertmanager" in found else None
    rules = write_rules(run)
    config = prometheus_config(
        {"joulefloor": [daemon.address for daemon in daemons]},
        interval_s=SCRAPE_S,
        rules=rules,
        alertmanagers=[alertmanager.address] if alertmanager else [],
    )
    if run.options.demo:
        config["scrape_configs"] = demo.scrape_configs(daemons)
    program = found["prometheus"]
    prometheus = run.keep(
        start_prometheus(
            program,
            run.directory,
            config,
            port=free_port(PROMETHEUS_PORT),
            resend_s=2,
            stop=run.asked,
        )
    )
    every = f'count(up{{job="joulefloor"}} == 1) == {len(daemons)}'
    scraped = run.wait_for(lambda: bool(instant(prometheus.url, every)), FIRST_SCRAPE_S)
    whom = "the daemon" if len(daemons) == 1 else f"{len(daemons)} daemons"
    state = f"scrapes {whom}" if scraped else f"has not reached {whom} yet"
    detail = f"{program.version}, {state}, {len(rules)} rule files"
    page = f"{prometheus.url}/{'graph' if answers(f'{prometheus.url}/graph') else 'api/v1/targets'}"
    run.links.append(("Prometheus", f"{page}  ({detail})"))
    if alertmanager:
        version = found["alertmanager"].version
        run.links.append(("Alertmanager", f"{alertmanager.url}/  ({version})"))
    add_grafana(run, prometheus)


def watch_alerts(run: Run, found: dict[str, Program]) -> Peer:
    """Start Alertmanager; what it delivers is shown here."""
    receiver = run.started.enter_context(AlertReceiver(changes(show)))
    peer = run.keep(
        start_alertmanager(
            found["alertmanager"],
            run.directory,
            receiver.config(),
            port=free_port(ALERTMANAGER_PORT),
            stop=run.asked,
        )
    )
    run.alerting = True
    return peer


def write_rules(run: Run) -> list[Path]:
    """The shipped rules; in the demo hurried ones, and with a past to compare with."""
    if not run.options.demo:
        return rule_files(ALERTS)
    promtool = programs.locate("promtool", places=run.options.programs)
    if promtool is None or not demo.write_past(promtool, run.directory):
        run.links.append(("last week", "not there without promtool; no alert compares with it"))
    run.links.append(("rules", demo.HURRIED))
    return demo.write_rules(ALERTS, run.directory / "rules")


def add_grafana(run: Run, prometheus: Peer) -> None:
    """Start the machine's Grafana with our dashboards, or say that there is none."""
    program = programs.locate("grafana", places=run.options.programs)
    if program is None or not PROVISIONING.is_dir():
        run.links.append(("Grafana", "none on this machine; import dashboards/*.json into yours"))
        return
    try:
        grafana = run.keep(start_grafana(program, run.directory, prometheus.url, run.asked))
    except PeerError as error:
        # Pictures are a convenience here: the daemon and its alerts go on without them.
        run.links.append(("Grafana", str(error).splitlines()[0]))
        return
    run.links.append(("Grafana", f"{grafana.url}/dashboards  ({program.version})"))


if __name__ == "__main__":
    sys.exit(main())
