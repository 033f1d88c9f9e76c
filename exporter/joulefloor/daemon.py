"""`joulefloor run`: sources, sampler, pages and server, started together or not at all."""

from __future__ import annotations

import resource
import signal
import threading
from traceback import format_exception
from typing import TYPE_CHECKING

from joulefloor import __version__
from joulefloor.apart import load_yaml_apart
from joulefloor.assembly import (
    build_sampler,
    build_sources,
    check_required,
    check_root,
    node_name,
)
from joulefloor.clock import SystemClock
from joulefloor.config import load
from joulefloor.exposition import Renderer
from joulefloor.host import Host
from joulefloor.log import Log, Severity
from joulefloor.pages import Machine, Pages
from joulefloor.plugins import installed
from joulefloor.server import Server

if TYPE_CHECKING:
    from pathlib import Path

    from joulefloor.flags import Options
    from joulefloor.sampler import Sampler
    from joulefloor.webconfig import WebConfig

STOP_S = 1.0
"""Time for the sources to end; a hung one is left behind."""
LEDGER = "ledger"
"""Name of the thread without which there is nothing to serve."""
FAILED = 1
"""Exit code when the ledger has ended by itself: what starts the daemon should do so again."""


def serve(options: Options) -> int:
    """Run until SIGTERM, SIGINT or SIGHUP; the exit code is FAILED when a bug ended it, else 0.

    Raises:
        JoulefloorError: something given cannot be used; then nothing was started.
    """
    clock = SystemClock()
    started_ns = clock.monotonic_ns()
    severity = Severity[options.log_level.upper()]
    log = Log(clock, severity, as_json=options.log_format == "json")
    plugins = installed()
    config = load(options.config_file, plugins, load_yaml_apart)
    check_root(options.rootfs)
    host = Host(options.rootfs)
    built = build_sources(config, plugins, host, clock)
    check_required(built)
    name = node_name(host)
    sources = tuple(source for _, source, _ in built)
    sampler = build_sampler(config, sources, clock, log, node=name)
    pages = Pages(
        Renderer(lambda: sampler.snapshot),
        lambda: sampler.snapshot,
        lambda: sampler.alive(clock.monotonic_ns()),
        machine=Machine(name or "this machine", __version__, started_ns),
        clock=clock,
        telemetry_path=options.telemetry_path,
    )
    server = _open(options, pages, clock, log)
    return _run(server, sampler, log)


def _open(options: Options, pages: Pages, clock: SystemClock, log: Log) -> Server:
    web = _web_config(options.web_config_file)
    return Server(
        options.addresses,
        pages.routes(),
        clock=clock,
        log=log,
        missing=pages.missing,
        headers=web.headers if web else {},
        tls=web.encryption(log) if web else None,
        gate=web.gate() if web else None,
    )


def _web_config(file: Path | None) -> WebConfig | None:
    if file is None:
        return None
    from joulefloor.webconfig import load_web_config  # noqa: PLC0415  # yaml, only if there is one

    return load_web_config(file)


def _run(server: Server, sampler: Sampler, log: Log) -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # two descriptors a pod are kept
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # not nohup's
            signal.signal(number, lambda *_: server.stop())
    ended: list[str] = []

    def note_end(end: threading.ExceptHookArgs) -> None:
        name = end.thread.name if end.thread else "unknown"
        trace = "".join(format_exception(end.exc_type, end.exc_value, end.exc_traceback))
        log.error("thread_bug", thread=name, traceback=trace)
        ended.append(name)
        if name == LEDGER:
            server.stop()

    threading.excepthook = note_end
    sampler.start()
    log.info("started", version=__version__, listen=" ".join(server.urls))
    server.run()
    sampler.stop(STOP_S)
    log.info("stopped")
    return FAILED if LEDGER in ended else 0
