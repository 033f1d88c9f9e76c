"""From a configuration to a sampler: what `run`, `measure` and `sources` have in common."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import __version__, catalogue
from joulefloor.attribution import Policy
from joulefloor.billing import Terms
from joulefloor.board import Board
from joulefloor.errors import Reason, SourceError, StartError
from joulefloor.ledger import Ledger, Rules
from joulefloor.limits import LimitSource
from joulefloor.sampler import Sampler
from joulefloor.sources import Site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from joulefloor.clock import Clock
    from joulefloor.config import Config
    from joulefloor.host import Host
    from joulefloor.log import Log
    from joulefloor.plugins import Plugin
    from joulefloor.sources import Source


class Built(NamedTuple):
    """A source with the name of its configuration section."""

    section: str
    source: Source
    required: bool


def build_sources(
    config: Config, plugins: Mapping[str, Plugin], host: Host, clock: Clock, *, unused: bool = False
) -> tuple[Built, ...]:
    """Every enabled source, built but not read; the machine is not touched.

    `unused`: also those of which nothing would be made with this configuration.
    """
    by_limits = unused or config.workloads.static == Policy.ALLOCATION
    built: list[Built] = []
    for name, chosen in config.sources.items():
        if chosen.enabled:
            site = Site(host, clock, chosen.settings)
            built.extend(
                Built(name, source, chosen.required)
                for source in plugins[name].load().build(site)
                if by_limits or source.name != LimitSource.name
            )
    return tuple(built)


def check_required(built: tuple[Built, ...]) -> None:
    """Look for the sources the operator cannot do without.

    Raises:
        StartError: one is not there; the message says why.
    """
    for section, source, required in built:
        if not required:
            continue
        try:
            source.channels()
        except SourceError as error:
            raise StartError(
                f"sources.{section}: required, but {error.reason}: {error.detail}"
            ) from None


def build_sampler(
    config: Config,
    sources: tuple[Source, ...],
    clock: Clock,
    log: Log,
    *,
    patience_s: float = 5.0,
    node: str = "",
) -> Sampler:
    """Ledger, board and sampler over the sources; nothing runs yet.

    `patience_s`: how long a model waits for meters before it may be elected. `node`: what the
    cluster calls this machine.
    """
    board = Board()
    build = (__version__, ".".join(map(str, sys.version_info[:3])))
    board.put(board.cell(catalogue.BUILD_INFO, build, "assembly"), 1.0)
    rules = Rules(
        prefer=config.meters.prefer,
        sink_celsius=config.physics.sink_temperature,
        static_watts=config.static_power.start,
        cpus=os.cpu_count() or 1,
        model_patience_s=patience_s,
        terms=Terms(Policy(config.workloads.static), config.workloads.keep, node),
    )
    ledger = Ledger(board, rules)
    return Sampler(sources, ledger, board, clock, log, tick_s=config.sampling.tick)


def node_name(host: Host) -> str:
    """What the cluster calls this machine: NODE_NAME, which the chart sets, else the host's name.

    In a pod the name under /proc is that of the pod, unless it has the network of the host.
    """
    return os.environ.get("NODE_NAME") or host.text_or("proc/sys/kernel/hostname", "")


class Probe(NamedTuple):
    """What a source offers on this machine, for `joulefloor sources`."""

    source: str
    state: str
    channels: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def probe(source: Source) -> Probe:
    """Look at one source: its channels, and what is denied, absent or broken and why."""
    try:
        found = source.channels()
        batch = source.read()
    except SourceError as error:
        state = "absent" if error.reason is Reason.ABSENT else f"down ({error.reason})"
        return Probe(source.name, state, faults=(f"{error.reason}: {error.detail}",))
    finally:
        source.close()
    faults = tuple(dict.fromkeys(f"{fault.reason}: {fault.detail}" for fault in batch.faults))
    channels = tuple(
        f"{channel.metric.name}{{{_label_text(channel.metric.labels, channel.labels)}}}"
        for channel in found
    )
    return Probe(source.name, "up" if batch.readings else "down", channels, faults)


def _label_text(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))


def check_root(root: Path) -> None:
    """Refuse a `--path.rootfs` that cannot be one.

    Raises:
        StartError: it is no folder.
    """
    if not root.is_dir():
        raise StartError(
            f"--path.rootfs={root}: is not a folder; give the mounted root of the host"
        )
