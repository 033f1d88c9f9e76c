"""What workloads may use at most: by it static energy is billed under the policy `allocation`.

Requests are not in the tree in a form that can be read back (weights are rounded, and by two
formulas), limits are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.census import Census
from joulefloor.cgroups import Hierarchy, hierarchy
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Batch, Channel, Measures, Reading, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.clock import Clock
    from joulefloor.host import Host

UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" as the largest number of pages."""
LONGEST = 20
"""Digits of 2**64."""


class LimitSource:
    """How much CPU and memory each workload may use at most; those without a limit are left out.

    Reads: cpu.max and memory.max (v2), cpu.cfs_quota_us, cpu.cfs_period_us and
    memory.limit_in_bytes (v1) below sys/fs/cgroup.
    Raises: ABSENT without control groups, or when nothing is limited.
    """

    name = "workloads-limits"

    def __init__(
        self, host: Host, clock: Clock, period_s: float, services: Sequence[str], limit: int
    ) -> None:
        """Nothing is opened before the first read."""
        self.period_s = period_s
        self.deadline_s = max(1.0, period_s / 5)
        self._host = host
        self._clock = clock
        self._cpu = Census(host, clock, services, limit)
        self._memory = Census(host, clock, services, limit)
        self._known: dict[tuple[str, Workload], Channel] = {}

    def channels(self) -> tuple[Channel, ...]:
        """Limits there are."""
        return tuple(reading.channel for reading in self.read().readings)

    def read(self) -> Batch:
        """CPUs and bytes; a workload of several groups has a limit if all of them have one."""
        at_ns = self._clock.monotonic_ns()
        limits: dict[tuple[str, Workload], float] = {}
        for component, census, controllers, limit in (
            ("cpu", self._cpu, ("cpu,cpuacct", "cpuacct,cpu", "cpu"), self._cpus),
            ("dram", self._memory, ("memory",), self._bytes),
        ):
            tree = hierarchy(self._host, *controllers)
            census.look(tree.mount)
            for workload, paths in census.groups.items():
                amounts = [limit(f"{tree.mount}/{path}", tree) for path in paths]
                if all(amount is not None for amount in amounts):
                    limits[component, workload] = sum(filter(None, amounts))
        if not limits:
            raise SourceError(Reason.ABSENT, "no workload has a limit of CPU or memory")
        self._known = {key: self._known.get(key) or _limit_channel(*key) for key in sorted(limits)}
        return Batch(tuple(Reading(self._known[key], limits[key], at_ns) for key in sorted(limits)))

    def close(self) -> None:
        """Nothing is kept open."""
        self._cpu.forget()
        self._memory.forget()

    def _cpus(self, path: str, tree: Hierarchy) -> float | None:
        if tree.unified:
            words = self._host.text_or(f"{path}/cpu.max", "").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [self._host.text_or(f"{path}/{name}", "") for name in names]
        if len(words) == 2 and all(map(_is_amount, words)):  # noqa: PLR2004  # quota and period
            return int(words[0]) / int(words[1])
        return None

    def _bytes(self, path: str, tree: Hierarchy) -> float | None:
        name = "memory.max" if tree.unified else "memory.limit_in_bytes"
        text = self._host.text_or(f"{path}/{name}", "")
        return int(text) if _is_amount(text) and int(text) < UNLIMITED_BYTES else None


def _is_amount(text: str) -> bool:
    """A positive number of the kernel; "max" and -1 say that there is no limit."""
    return text.isascii() and text.isdigit() and len(text) <= LONGEST and int(text) > 0


def _limit_channel(component: str, workload: Workload) -> Channel:
    labels = (component, *workload, "static")
    return Channel(catalogue.WORKLOAD_ENERGY, labels, Measures.HOLD)
