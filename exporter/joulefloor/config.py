"""The configuration file: YAML into frozen dataclasses, all problems at once.

The only module that imports yaml. The reference table in `exporter/CONFIG.md` is generated from
the dataclasses here and the `Settings` of each source.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # read by get_type_hints
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from joulefloor.attribution import Policy
from joulefloor.bounds import Bounds, check_bounds
from joulefloor.errors import ConfigError, Problem
from joulefloor.units import ZERO_CELSIUS_IN_KELVIN, Celsius, Seconds, Watts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from joulefloor.decode import Decoder, Node
    from joulefloor.plugins import Plugin

MAX_BYTES = 1_048_576
METER_LABELS = (
    "rapl",
    "hsmp",
    "amd-energy",
    "grace",
    "acpi",
    "grace-module",
    "rapl-psys",
    "rapl-mmio",
    "nvml",
    "nvml-power",
)
"""Sources of meters that several may be of for one device, best first."""
OTHER_LABELS = ("model", "simulated")
COMPONENTS = ("cpu", "dram", "gpu", "tpu", "fan", "nic", "disk")
"""What our sources and the common ones of others call the components of a machine."""
NEAR = 0.8
"""Likeness (0..1) from which on a name is taken for a misspelt one: rapll, cpuu, gpus."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How often the ledger ticks."""

    #: time between ticks, 100ms to 60s; sources keep their own periods, rounded up to ticks
    tick: Seconds = Seconds(1.0)

    def __post_init__(self) -> None:
        """Refuse a tick that cannot work."""
        check_bounds(self, tick=Bounds(0.1, 60.0))


@dataclass(frozen=True, slots=True)
class Meters:
    """Which meter is elected when several cover one device."""

    #: `source` labels, best first; unlisted ones follow, modelled ones always come last
    prefer: tuple[str, ...] = METER_LABELS

    def __post_init__(self) -> None:
        """Refuse a label that is spelt almost as one of ours."""
        _check_spelling("prefer", self.prefer, (*METER_LABELS, *OTHER_LABELS))


@dataclass(frozen=True, slots=True)
class StaticPower:
    """Start values of the learned idle baseline."""

    #: power per device of a component until a quiet minute was seen, for example {cpu: 40W}
    start: Mapping[str, Watts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a component that is spelt almost as one of ours."""
        _check_spelling("start", self.start, COMPONENTS)


@dataclass(frozen=True, slots=True)
class Physics:
    """What the Landauer floor and entropy production refer to."""

    #: heat sink temperature while no inlet or coolant sensor reads
    sink_temperature: Celsius = Celsius(25.0)

    def __post_init__(self) -> None:
        """Refuse what no heat sink has: the floor is proportional to its kelvin."""
        above_0_kelvin = Bounds(-ZERO_CELSIUS_IN_KELVIN, unit="degC", above=True)
        check_bounds(self, sink_temperature=above_0_kelvin)


@dataclass(frozen=True, slots=True)
class Workloads:
    """Who is billed for the energy of the machine."""

    #: who is billed for static energy: unattributed (nobody), allocation (by limits and devices
    #: held) or use (as for dynamic energy)
    static: str = "unattributed"
    #: time for which the counters of a finished workload stay, whoever scrapes
    keep: Seconds = Seconds(300.0)

    def __post_init__(self) -> None:
        """Refuse a policy that does not exist."""
        if self.static not in tuple(Policy):
            raise ValueError(f"static: must be one of {', '.join(Policy)}, not {self.static!r}")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source: whether it runs, whether the daemon needs it, and its own settings."""

    enabled: bool
    required: bool = False
    settings: object = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a configuration file can say."""

    sampling: Sampling = field(default_factory=Sampling)
    meters: Meters = field(default_factory=Meters)
    static_power: StaticPower = field(default_factory=StaticPower)
    physics: Physics = field(default_factory=Physics)
    workloads: Workloads = field(default_factory=Workloads)
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)


SECTIONS = {
    "sampling": Sampling,
    "meters": Meters,
    "static_power": StaticPower,
    "physics": Physics,
    "workloads": Workloads,
}


def load_yaml(path: Path) -> Node:
    """The document of a YAML file, with the line of every node.

    Raises:
        ConfigError: unreadable, not UTF-8, empty, not YAML, more than one document.
    """
    import yaml  # noqa: PLC0415  # 2.8 MiB, only when there is a file

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _problem(str(path), f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _problem(str(path), "is larger than 1 MiB; is this the right file?")
    try:
        node = yaml.compose(data.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise _problem(str(path), f"is not text: byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise _problem(str(path), "is nested too deeply; is this the right file?") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = " ".join(filter(None, (error.context, error.problem)))
        raise _problem(f"{path}:{line}", f"is not YAML: {what}") from None
    except yaml.YAMLError as error:
        raise _problem(str(path), f"is not YAML: {str(error).splitlines()[0]}") from None
    if node is None:
        raise _problem(str(path), "is empty; leave the file out to run with defaults")
    return cast("Node", node)


def load(
    path: Path | None, plugins: Mapping[str, Plugin], read: Callable[[Path], Node] = load_yaml
) -> Config:
    """The configuration of a file that `read` reads, or the defaults when there is none.

    Raises:
        ConfigError: every problem of the file.
    """
    if path is None:
        return Config(sources=_sources(None, None, plugins))
    from joulefloor.decode import Decoder  # noqa: PLC0415  # as yaml: only when there is a file

    node = read(path)
    decoder = Decoder(str(path))
    known = [*SECTIONS, "sources"]
    entries = decoder.entries(node, "")
    for name, (key, _) in entries.items():
        if name not in known:
            decoder.unknown(key, "", known)
    sections: dict[str, Any] = {
        name: decoder.decode(cls, entries[name][1], name)
        for name, cls in SECTIONS.items()
        if name in entries
    }
    sources = entries["sources"][1] if "sources" in entries else None
    config = Config(**sections, sources=_sources(decoder, sources, plugins))
    if decoder.problems:
        raise ConfigError(tuple(decoder.problems))
    return config


def _sources(
    decoder: Decoder | None, node: Node | None, plugins: Mapping[str, Plugin]
) -> dict[str, SourceConfig]:
    """Settings of every installed source; only those that run are imported."""
    entries: dict[str, tuple[Node, Node]] = {}
    if decoder is not None and node is not None:
        entries = decoder.entries(node, "sources")
        for name, (key, _) in entries.items():
            if name not in plugins:
                decoder.unknown(key, "sources", sorted(plugins))
    configs: dict[str, SourceConfig] = {}
    for name, plugin in plugins.items():
        if decoder is not None and name in entries:
            configs[name] = _source(decoder, entries[name][1], plugin)
        elif plugin.on:
            configs[name] = SourceConfig(enabled=True, settings=plugin.load().settings())
        else:
            configs[name] = SourceConfig(enabled=False)
    return configs


def _source(decoder: Decoder, node: Node, plugin: Plugin) -> SourceConfig:
    """One source's section: `enabled` and `required` are ours, the rest is its Settings."""
    path = f"sources.{plugin.name}"
    before = len(decoder.problems)
    entries = decoder.entries(node, path)
    flags = {"enabled": plugin.on, "required": False}
    if len(decoder.problems) > before:  # decoding would say the same again
        return SourceConfig(plugin.on)
    for flag in flags:
        if flag in entries:
            flags[flag] = bool(decoder.value(bool, entries[flag][1], f"{path}.{flag}"))
    settings = decoder.decode(plugin.load().settings, node, path, reserved=tuple(flags))
    return SourceConfig(flags["enabled"], flags["required"], settings)


def _check_spelling(key: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Other names than ours may be those of another package's source.

    Raises:
        ValueError: a name is no known one, but nearly.
    """
    for name in given:
        if name not in known:
            from difflib import get_close_matches  # noqa: PLC0415  # only for what is not ours

            near = get_close_matches(name, known, n=1, cutoff=NEAR)
            if near:
                raise ValueError(f"{key}: unknown name {name!r}; did you mean {near[0]!r}?")


def _problem(where: str, what: str) -> ConfigError:
    return ConfigError((Problem(where, what),))
