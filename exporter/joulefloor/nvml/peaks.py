"""How many operations a pipe of a GPU can do, from published peaks, and how many it did."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joulefloor.units import Hertz

TABLE = Path(__file__).parent.parent / "data" / "gpu_peaks.csv"
HEADER = "model,"
MAKERS = ("NVIDIA ", "Tesla ")
"""What product names begin with, or not, by driver."""
MOST_ACTIVITY = 1.02
"""Activity (1 is the physical peak) beyond this is a wrong number, not rounding."""


class Peak(NamedTuple):
    """Operations per cycle of the whole GPU's SM clock, when one pipe is always busy."""

    pipe: str
    precision: str
    operations_per_cycle: float


class Refused(Exception):  # noqa: N818  # a verdict on a number
    """An activity that no hardware can have."""


def peaks_of(model: str, table: Path = TABLE) -> tuple[Peak, ...]:
    """The known pipes of a product name as the driver gives it; empty if nobody published them."""
    name = model
    for maker in MAKERS:
        name = name.removeprefix(maker)
    return tuple(
        Peak(row[1], row[2], float(row[3]) * float(row[4]))
        for row in rows_of(table)
        if re.fullmatch(row[0], name.strip())
    )


def rows_of(table: Path = TABLE) -> tuple[tuple[str, ...], ...]:
    """The rows of the table of peaks, in the order of its header."""
    lines = table.read_text(encoding="utf-8").splitlines()
    return tuple(
        tuple(line.split(",")) for line in lines if line and not line.startswith(("#", HEADER))
    )


class Operations:
    """Operations of one GPU by precision, integrated over intervals of activity.

    Kept here because the driver tells activity only between two samples: the totals start at 0
    with the process.
    """

    def __init__(self, peaks: tuple[Peak, ...]) -> None:
        """`peaks` of the GPU; without any nothing is ever counted."""
        self._peaks = peaks
        self.totals = dict.fromkeys((peak.precision for peak in peaks), 0.0)

    def add(self, activity: Mapping[str, float], sm_clock: Hertz, seconds: float) -> None:
        """Count an interval: `activity` per pipe (0..1), mean clock (Hz), length (s).

        Raises:
            Refused: more than the physical peak; then nothing is counted.
        """
        done: dict[str, float] = {}
        for peak in self._peaks:
            share = activity.get(peak.pipe, 0.0)
            if not 0 <= share <= MOST_ACTIVITY:
                raise Refused(f"pipe {peak.pipe}: {share:.3f} of the physical peak is impossible")
            amount = min(share, 1.0) * sm_clock * seconds * peak.operations_per_cycle
            done[peak.precision] = done.get(peak.precision, 0.0) + amount
        for precision, amount in done.items():
            self.totals[precision] += amount
