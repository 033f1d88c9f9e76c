"""Time, injected: the only module that imports `time`, so that tests hold the clock still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the daemon may ask of time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds for differences; stands still while the machine is suspended."""

    def boottime_ns(self) -> int:
        """Nanoseconds that go on during suspend; its lead over `monotonic_ns` tells of one."""

    def unix_s(self) -> float:
        """Wall clock in seconds, for people only; may step at any time."""

    def process_cpu_s(self) -> float:
        """CPU seconds this process has used, all threads."""


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME, Linux since 2.6.39."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def unix_s(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()

    def process_cpu_s(self) -> float:
        """CLOCK_PROCESS_CPUTIME_ID."""
        return time.process_time()
