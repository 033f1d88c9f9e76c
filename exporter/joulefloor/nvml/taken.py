"""What one read of a GPU brought, and which of its capabilities are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor.nvml.binding import DRIVER_CHANGED, GONE, MISSING, NO_PERMISSION, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from joulefloor.clock import Clock
    from joulefloor.errors import Reason
    from joulefloor.nvml.table import Row

RETRY_NS = 60_000_000_000
"""How often a capability that is missing is asked for again."""
PATIENCE = 3
"""Refusals in a row before a capability is asked for only now and then."""
NO_LACK = frozenset({"mig", "processes", "power_module"})
"""What most GPUs do not have and nobody misses."""
UNSUPPORTED, DENIED = "unsupported", "denied"


class RowFault(NamedTuple):
    """A series that gave nothing."""

    row: Row
    reason: Reason
    detail: str


class Refused(NamedTuple):
    """How often in a row a capability was refused, as what, and when to ask again."""

    state: str
    detail: str
    times: int
    retry_ns: int


class Taken:
    """Collects the values and faults of one read; `at_ns` is when its energy was read."""

    def __init__(self) -> None:
        """Nothing taken."""
        self.at_ns = 0
        self.values: dict[Row, float] = {}
        self.faults: list[RowFault] = []

    def fault(self, rows: Iterable[Row], refusal: Refusal) -> None:
        """These rows gave nothing, for one reason."""
        reason = refusal.reason
        self.faults.extend(RowFault(row, reason, refusal.detail) for row in rows)


class Capabilities:
    """Tri-state of every capability of a device: read, unsupported or denied; never for ever."""

    def __init__(self, clock: Clock) -> None:
        """Everything is believed to work until it is refused."""
        self._clock = clock
        self._refused: dict[str, Refused] = {}

    def missing(self) -> dict[str, str]:
        """State of each capability that is not read; of a field by what stands before the slash.

        Of fields of one name DENIED counts, which somebody can mend.
        """
        states: dict[str, str] = {}
        for key, refused in sorted(self._refused.items()):
            name = key.partition("/")[0]
            if key not in NO_LACK and states.get(name) != DENIED:
                states[name] = refused.state
        return states

    def lacks(self, key: str) -> bool:
        """Whether it was refused when it was last asked for."""
        return key in self._refused

    def due(self, key: str) -> bool:
        """Whether to ask for it now."""
        refused = self._refused.get(key)
        if refused is None or refused.times < PATIENCE:
            return True
        return self._clock.monotonic_ns() >= refused.retry_ns

    def note(self, key: str, rows: Sequence[Row], refusal: Refusal, taken: Taken) -> None:
        """Remember a refusal; whatever is not simply unsupported is a fault of the rows.

        Raises:
            Refusal: it concerns the whole GPU or the driver.
        """
        if refusal.code in GONE or refusal.code in DRIVER_CHANGED:
            raise refusal
        if refusal.code in MISSING or refusal.code == NO_PERMISSION:
            before = self._refused.get(key)
            state = DENIED if refusal.code == NO_PERMISSION else UNSUPPORTED
            times = before.times + 1 if before is not None and before.state == state else 1
            retry_ns = self._clock.monotonic_ns() + RETRY_NS
            self._refused[key] = Refused(state, refusal.detail, times, retry_ns)
        if refusal.code not in MISSING:
            taken.fault(rows, refusal)

    def works(self, key: str) -> None:
        """It answered."""
        self._refused.pop(key, None)

    def read(
        self,
        key: str,
        rows: Sequence[Row],
        call: Callable[[], Sequence[float | None]],
        taken: Taken,
    ) -> bool:
        """Read some rows if they are due; whether there were values. None leaves a row out.

        Raises:
            Refusal: as `note`.
        """
        if not self.due(key):
            self.repeat(key, rows, taken)
            return False
        try:
            values = call()
        except Refusal as refusal:
            self.note(key, rows, refusal, taken)
            return False
        self.works(key)
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                taken.values[row] = value
        return True

    def repeat(self, key: str, rows: Sequence[Row], taken: Taken) -> None:
        """A denied capability stays a fault between two attempts."""
        refused = self._refused[key]
        if refused.state == DENIED:
            taken.fault(rows, Refusal("", NO_PERMISSION, refused.detail))
