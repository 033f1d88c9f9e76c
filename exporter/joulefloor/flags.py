"""The flags of `joulefloor run`, stated once: the daemon reads them itself, click shows them.

Click stays out of the daemon: it is a tenth of its memory. What is not plainly a list of these
flags and good values (a mistake, a cry for help) is left to click, which knows how to explain it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from joulefloor.log import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence


UNUSABLE = 2
"""Exit code when what was given cannot be used."""


class Options(NamedTuple):
    """What was said after `joulefloor run`, with what holds when nothing was."""

    config_file: Path | None = None
    addresses: tuple[str, ...] = (":13806",)
    telemetry_path: str = "/metrics"
    web_config_file: Path | None = None
    rootfs: Path = Path("/")
    log_level: str = "info"
    log_format: str = "logfmt"


class Flag(NamedTuple):
    """One flag: its name, the field of Options it fills, and what people are told of it.

    `is_path`: the value names a file or folder. `many`: it may be given several times. `shown`:
    the help names its default.
    """

    name: str
    field: str
    metavar: str | None = None
    help: str = ""
    choices: tuple[str, ...] = ()
    is_path: bool = False
    many: bool = False
    shown: bool = True

    @property
    def default(self) -> Any:  # noqa: ANN401  # of the field's type
        """What holds when the flag is not given."""
        return Options._field_defaults[self.field]


CONFIG = Flag(
    "config.file",
    "config_file",
    "FILE",
    "YAML configuration; without it every source runs with its defaults.",
    is_path=True,
    shown=False,
)
ROOT = Flag(
    "path.rootfs",
    "rootfs",
    "DIR",
    "Where the host's root is mounted (in a container: /host).",
    is_path=True,
)
RUN = (
    CONFIG,
    Flag(
        "web.listen-address",
        "addresses",
        "[HOST]:PORT",
        "Where to serve; may be given several times.",
        many=True,
    ),
    Flag("web.telemetry-path", "telemetry_path", "PATH"),
    Flag(
        "web.config.file",
        "web_config_file",
        "FILE",
        "TLS, client certificates and basic auth, in the format of the Prometheus exporters.",
        is_path=True,
        shown=False,
    ),
    ROOT,
    Flag("log.level", "log_level", choices=tuple(level.name.lower() for level in Severity)),
    Flag("log.format", "log_format", choices=("logfmt", "json")),
)
"""All of `run`, in the order of its help."""
_BY_NAME = {f"--{flag.name}": flag for flag in RUN}


def read_flags(words: Sequence[str]) -> Options | None:
    """Options out of the words after `run`; None if they are anything but known flags with values.

    Both `--flag=value` and `--flag value` are read; of a flag given twice the last value holds.
    """
    given: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        flag = _BY_NAME.get(name)
        if flag is None:
            return None
        if not equals:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        if flag.choices and value not in flag.choices:
            return None
        if flag.many:
            given[flag.field] = (*given.get(flag.field, ()), value)
        else:
            given[flag.field] = Path(value) if flag.is_path else value
    return Options(**given)
