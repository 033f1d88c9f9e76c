"""Plays a machine: its counters move by known amounts while the real sources read them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from joulefloor.assembly import build_sampler, build_sources
from joulefloor.config import Config, SourceConfig
from joulefloor.exposition import Renderer
from joulefloor.log import Log, Severity
from joulefloor.plugins import installed
from tests.patience import whole_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.catalogue import Metric
    from joulefloor.sampler import Sampler
    from tests.machine import Machine

USER_HZ = 100
OWN_PROCESS = "process"


class Player:
    """A machine with every source that reads its files, ticked by hand until its test ends."""

    playing: ClassVar[list[Player]] = []

    def __init__(self, machine: Machine, *names: str, config: Config | None = None) -> None:
        """`names`: sources to run; all but those that do not read the machine if none is given."""
        self.machine = machine
        plugins = installed()
        chosen = names or tuple(
            name for name, plugin in plugins.items() if plugin.on and name != OWN_PROCESS
        )
        settings = {name: plugins[name].load().settings() for name in chosen}
        rows = {name: SourceConfig(True, settings=each) for name, each in settings.items()}
        config = replace(config or Config(), sources=rows)
        built = build_sources(config, plugins, machine.host, machine.clock)
        self.log = io.StringIO()
        log = Log(machine.clock, Severity.INFO, stream=self.log)
        sources = tuple(row.source for row in built)
        self.sampler: Sampler = build_sampler(config, sources, machine.clock, log)
        self.playing.append(self)

    @classmethod
    def end_all(cls) -> None:
        """Stop the threads that read; with them go their open files."""
        while cls.playing:
            cls.playing.pop().sampler.stop()

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, then tick."""
        self.machine.clock.advance(seconds)
        with whole_ticks():
            self.sampler.tick(self.machine.clock.now_ns)

    def metrics(self) -> str:
        """The exposition as text."""
        renderer = Renderer(lambda: self.sampler.snapshot)
        return renderer.body(openmetrics=False, compressed=False).decode()

    def series(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """Present series of one metric."""
        samples = self.sampler.snapshot.samples()
        return {sample.labels: sample.value for sample in samples if sample.metric is metric}

    def burn(self, joules: float, busy: float, seconds: float) -> None:
        """Every energy counter moves on by `joules` (and wraps), every CPU is `busy` (0..1)."""
        for path in self._files(r"/energy(_uj|\d+_input)$"):
            self.add_energy(path, joules)
        self.use_cpus(busy, seconds)

    def add_energy(self, path: str, joules: float) -> None:
        """Move one counter (uJ), wrapping at its max_energy_range_uj if there is one."""
        host = self.machine.host
        raw = host.text_or(path, "")
        if not raw.isdigit():
            return
        value = int(raw) + round(joules * 1e6)
        span = host.text_or(path.replace("energy_uj", "max_energy_range_uj"), "")
        if span.isdigit() and path.endswith("energy_uj"):
            value %= int(span) + 1
        self.machine.write(path, value)

    def use_cpus(self, busy: float, seconds: float) -> None:
        """Advance proc/stat."""
        lines = self.machine.host.text_or("proc/stat", "").splitlines()
        cpus = sum(bool(re.match(r"cpu\d", line)) for line in lines)
        moved = []
        for line in lines:
            words = line.split()
            if words and words[0].startswith("cpu"):
                times = [int(word) for word in words[1:]]
                ticks = round(seconds * USER_HZ) * (1 if words[0] != "cpu" else cpus)
                times[0] += round(busy * ticks)
                times[3] += ticks - round(busy * ticks)
                line = " ".join([words[0], *map(str, times)])  # noqa: PLW2901  # the new line
            moved.append(line)
        if moved:
            self.machine.write("proc/stat", "\n".join(moved))

    def _files(self, pattern: str) -> Iterator[str]:
        root = self.machine.root
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink() and re.search(pattern, str(path)):
                yield str(path.relative_to(root))
