"""Starts a Grafana that this machine has, provisioned with our dashboards, for `make run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.processes import LOOPBACK, Peer, free_port, launch
from stack.programs import ROOT

if TYPE_CHECKING:
    import threading

    from stack.programs import Program

DASHBOARDS: Final = ROOT / "dashboards"
PROVISIONING: Final = DASHBOARDS / "provisioning"
# The packages, the tarball beside bin/ and the container image keep the web files here.
HOMES: Final = ("/usr/share/grafana", "/opt/grafana")
START_S: Final = 90.0


def start_grafana(
    program: Program, directory: Path, prometheus_url: str, stop: threading.Event | None = None
) -> Peer:
    """Start Grafana read-only for visitors and wait until its database is ready.

    Raises:
        PeerError: it died or did not become ready.
    """
    port = free_port(3000)
    serve = ["server"] if program.path.name == "grafana" else []
    command: list[str | Path] = [program.path, *serve, f"--homepath={_home(program.path)}"]
    environment = {
        # Names that dashboards/provisioning/ refers to.
        "PROMETHEUS_URL": prometheus_url,
        "DASHBOARDS_PATH": str(DASHBOARDS),
        "GF_PATHS_PROVISIONING": str(PROVISIONING),
        "GF_PATHS_DATA": str(directory / "grafana"),
        "GF_PATHS_LOGS": str(directory / "grafana"),
        "GF_PATHS_PLUGINS": str(directory / "grafana" / "plugins"),
        "GF_SERVER_HTTP_ADDR": LOOPBACK,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    }
    peer = launch("grafana", command, port=port, directory=directory, environment=environment)
    return peer.await_ready("/api/health", within_s=START_S, stop=stop)


def _home(path: Path) -> str:
    folders = [path.resolve().parent.parent, *map(Path, HOMES)]
    # conf/defaults.ini is what Grafana itself looks for under its home.
    found = (folder for folder in folders if (folder / "conf" / "defaults.ini").is_file())
    return str(next(found, HOMES[0]))
