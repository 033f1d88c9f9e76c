"""Which sources are installed: ours and other people's, by the same entry points.

Group `joulefloor.sources` holds sources that run unless switched off, `joulefloor.optional_sources`
those that run only when switched on. The metadata files are read directly: the standard library's
reader costs 6.4 MiB of memory, a third of the daemon.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from joulefloor.sources import Site, Source

GROUP = "joulefloor.sources"
OPTIONAL_GROUP = "joulefloor.optional_sources"


class Plugin(NamedTuple):
    """An installed source: its name, `module:function`, and whether it runs by default."""

    name: str
    target: str
    on: bool

    def load(self) -> Loaded:
        """Import the module and find `build` and `Settings`."""
        module_name, _, function = self.target.partition(":")
        module = import_module(module_name)
        build = cast("Callable[[Site[object]], Sequence[Source]]", getattr(module, function))
        return Loaded(build, cast("type[object]", module.Settings))


class Loaded(NamedTuple):
    """An imported source."""

    build: Callable[[Site[object]], Sequence[Source]]
    settings: type[object]


def installed(folders: Iterable[str] | None = None) -> dict[str, Plugin]:
    """Installed sources by name, in alphabetical order; the first on the path wins."""
    found: dict[str, Plugin] = {}
    for folder in sys.path if folders is None else folders:
        for file in sorted(Path(folder or ".").glob("*.dist-info/entry_points.txt")):
            for plugin in _plugins(file.read_text(encoding="utf-8", errors="replace")):
                found.setdefault(plugin.name, plugin)
    return dict(sorted(found.items()))


def _plugins(text: str) -> Iterator[Plugin]:
    """Our groups of one entry_points.txt (an INI file)."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group in {GROUP, OPTIONAL_GROUP} and "=" in line and not line.startswith("#"):
            name, _, target = line.partition("=")
            yield Plugin(name.strip(), target.split("[")[0].strip(), group == GROUP)
