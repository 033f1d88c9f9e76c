"""A machine with GPUs on the fake driver, read by the real source through its real worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor.board import Board
from joulefloor.clock import SystemClock
from joulefloor.config import Meters
from joulefloor.errors import Reason, SourceError
from joulefloor.host import Host
from joulefloor.ledger import Ledger, Rules
from joulefloor.sources import Site, nvml
from joulefloor.units import Seconds
from stack.query import eventually
from tests.nvml.scenario import FakeDriver
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from joulefloor.catalogue import Metric
    from joulefloor.model import Batch
    from tests.nvml.scenario import Section

SECOND_NS = 1_000_000_000
Series = dict[tuple[str, ...], float]


class LeapingClock(SystemClock):
    """The machine's clock, which a test may put ahead; the worker's own stays right."""

    def __init__(self) -> None:
        """Not ahead."""
        self.ahead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns

    def leap(self, seconds: float) -> None:
        """Let the source believe that time has passed."""
        self.ahead_ns += round(seconds * SECOND_NS)


class Rig:
    """Boards by profile, the source, and a ledger whose time is the test's own."""

    def __init__(self, folder: Path, *profiles: str, stopped: bool = True) -> None:
        """`stopped`: the driver's clock stands until `pass_time`, so that values are exact."""
        self.driver = FakeDriver(folder / "driver")
        self.gpus: list[Section] = [self.driver.gpu(n, p) for n, p in enumerate(profiles)]
        self.start_ns = int(self.driver.driver.keys["epoch_ns"])
        self.now_ns = self.start_ns
        if stopped:
            self.driver.driver.set(now_ns=self.now_ns)
        self.driver.write()
        self.root = folder / "root"
        (self.root / "dev").mkdir(parents=True)
        (self.root / "dev" / "nvidiactl").touch()
        self.clock = LeapingClock()
        self.source = self.build()
        self.board = Board()
        self.ledger = Ledger(self.board, Rules(prefer=Meters().prefer))

    def build(
        self,
        *,
        patience: float = 3.0,
        power_period: float = 0.02,
        process_parts: bool = False,
        detail: str = "standard",
    ) -> nvml.NvmlSource:
        """The source anew, with other settings."""
        settings = nvml.Settings(
            patience=Seconds(patience),
            power_period=Seconds(power_period),
            process_parts=process_parts,
            detail=detail,
            library_folder=str(self.driver.folder),
        )
        self.source = nvml.NvmlSource(Site(Host(self.root), self.clock, settings))
        return self.source

    def uuid(self, number: int) -> str:
        """UUID of a GPU, as its profile says."""
        return self.gpus[number].keys["uuid"]

    def pass_time(self, seconds: float) -> None:
        """Move the driver's clock."""
        self.now_ns += round(seconds * SECOND_NS)
        self.driver.at(self.now_ns)

    def until(self, holds: Callable[[Batch], bool]) -> Batch:
        """Read again and again until something holds; some seconds at most."""
        found: list[Batch] = []

        def check() -> bool:
            try:
                found.append(self.source.read())
            except SourceError:
                return False
            return holds(found[-1])

        held = eventually(check, within_s=PATIENCE_S)
        told = [(fault.reason, fault.detail) for batch in found[-1:] for fault in batch.faults]
        assert held, told or "never, and without a fault"
        return found[-1]

    def book(self, batch: Batch | None = None) -> Batch:
        """Read a round and let the ledger have it at the driver's time."""
        batch = self.source.read() if batch is None else batch
        moved = tuple(reading._replace(at_ns=self.now_ns) for reading in batch.readings)
        self.ledger.fold("nvml", 1.0, batch._replace(readings=moved))
        self.ledger.close(self.now_ns, 0.0)
        return batch

    def outage(self) -> None:
        """The source gave nothing, as the sampler tells the ledger."""
        self.ledger.silence("nvml")
        self.ledger.close(self.now_ns, 0.0)

    def ran(self, seconds: int) -> None:
        """Let time pass and book a round each second."""
        for _ in range(seconds):
            self.pass_time(1.0)
            self.book()

    def series(self, metric: Metric) -> Series:
        """What the ledger publishes of a metric now."""
        layout, values = self.board.freeze()
        found: Series = {}
        for family in layout.families:
            for offset, labels in enumerate(family.series):
                value = values[family.start + offset]
                if family.metric is metric and value is not None:
                    found[labels] = value
        return found


def series_of(batch: Batch, metric: Metric) -> Series:
    """Values of one metric in a batch, by labels."""
    return {r.channel.labels: r.value for r in batch.readings if r.channel.metric is metric}


def reasons_of(batch: Batch, uuid: str) -> set[Reason]:
    """Reasons of the faults of one GPU."""
    return {
        fault.reason
        for fault in batch.faults
        if uuid in fault.detail or (fault.channel is not None and uuid in fault.channel.labels)
    }
