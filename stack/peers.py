"""Configures and starts the real servers around the daemon, for `make run` and the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from stack.processes import LOOPBACK, free_port, launch

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stack.processes import Peer
    from stack.programs import Program


def write_config(path: Path, content: Mapping[str, object]) -> Path:
    """Write a configuration as YAML and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def prometheus_config(
    targets: Mapping[str, Sequence[str]],
    *,
    interval_s: float = 5,
    rules: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
) -> dict[str, object]:
    """Compose a prometheus.yml; `targets` maps each job to its host:port list."""
    config: dict[str, object] = {
        "global": {
            "scrape_interval": f"{interval_s:g}s",
            "evaluation_interval": f"{interval_s:g}s",
        },
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in targets.items()
        ],
    }
    if alertmanagers:
        static = {"static_configs": [{"targets": list(alertmanagers)}]}
        config["alerting"] = {"alertmanagers": [static]}
    return config


def rule_files(folder: Path) -> list[Path]:
    """List the YAML files of a folder that hold rule groups, and not tests or other examples."""
    return [
        path
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        if isinstance(content := yaml.safe_load(path.read_text(encoding="utf-8")), dict)
        and "groups" in content
    ]


def start_prometheus(
    program: Program,
    directory: Path,
    config: Mapping[str, object],
    *,
    port: int | None = None,
    resend_s: float | None = None,
    stop: threading.Event | None = None,
) -> Peer:
    """Start Prometheus on empty storage and wait until it is ready.

    Args:
        program: the binary, 2.x or 3.x.
        directory: receives configuration, storage and log.
        config: the content of prometheus.yml, see `prometheus_config`.
        port: a free one by default.
        resend_s: how soon a firing alert is sent again, in seconds. A first alert that finds
            Alertmanager undiscovered waits this long, by default a minute.
        stop: ends the wait when set.

    Raises:
        PeerError: it died or did not become ready.
    """
    port = port or free_port()
    resend = [] if resend_s is None else [f"--rules.alert.resend-delay={resend_s:g}s"]
    command: list[str | Path] = [
        program.path,
        f"--config.file={write_config(directory / 'prometheus.yml', config)}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--web.enable-lifecycle",
        "--web.enable-remote-write-receiver",
        "--enable-feature=exemplar-storage",
        *resend,
    ]
    peer = launch("prometheus", command, port=port, directory=directory)
    return peer.await_ready("/-/ready", stop=stop)


def start_alertmanager(
    program: Program,
    directory: Path,
    config: Mapping[str, object],
    *,
    port: int | None = None,
    stop: threading.Event | None = None,
) -> Peer:
    """Start a lone Alertmanager on empty storage and wait until it is ready.

    Raises:
        PeerError: it died or did not become ready.
    """
    port = port or free_port()
    command: list[str | Path] = [
        program.path,
        f"--config.file={write_config(directory / 'alertmanager.yml', config)}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--cluster.listen-address=",
    ]
    peer = launch("alertmanager", command, port=port, directory=directory)
    return peer.await_ready("/-/ready", stop=stop)


def start_victoriametrics(
    program: Program,
    directory: Path,
    config: Mapping[str, object] | None = None,
    *,
    port: int | None = None,
) -> Peer:
    """Start VictoriaMetrics, scraping by a prometheus.yml when one is given.

    Raises:
        PeerError: it died or did not become ready.
    """
    port = port or free_port()
    command: list[str | Path] = [
        program.path,
        f"-storageDataPath={directory / 'victoriametrics'}",
        f"-httpListenAddr={LOOPBACK}:{port}",
        # By default the newest 30 s are hidden, and fresh data looks empty.
        "-search.latencyOffset=1ms",
    ]
    if config is not None:
        scraped = {key: config[key] for key in ("global", "scrape_configs") if key in config}
        file = write_config(directory / "promscrape.yml", scraped)
        command += [f"-promscrape.config={file}", "-promscrape.config.strictParse=false"]
    peer = launch("victoriametrics", command, port=port, directory=directory)
    return peer.await_ready("/health")


def start_node_exporter(program: Program, directory: Path, *, port: int | None = None) -> Peer:
    """Start node_exporter with its default collectors and an empty textfile folder.

    Raises:
        PeerError: it died or did not become ready.
    """
    port = port or free_port()
    textfile = directory / "textfile"
    textfile.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        program.path,
        f"--web.listen-address={LOOPBACK}:{port}",
        f"--collector.textfile.directory={textfile}",
    ]
    peer = launch("node_exporter", command, port=port, directory=directory)
    return peer.await_ready("/")
