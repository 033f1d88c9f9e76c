"""Election, credit, twins, levels and static power: no joule is ever counted twice."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.billing import Terms
from joulefloor.board import Board
from joulefloor.errors import Reason
from joulefloor.ledger import Ledger, Rules
from joulefloor.meters import MOST_VANISHED
from joulefloor.model import Batch, Channel, Fault, Measures, Reading, Snapshot
from joulefloor.units import NANOSECONDS_PER_SECOND

PREFER = ("rapl", "rapl-mmio")


def meter(
    source: str, device: str = "package-0", component: str = "cpu", **more: object
) -> Channel:
    method = "modelled" if source == "model" else "measured"
    labels = (component, device, source, method)
    fields: dict[str, object] = {"wraps_at_joules": None, "max_watts": 2_000.0, **more}
    return Channel(catalogue.COMPONENT_ENERGY, labels, Measures.ENERGY, **fields)  # type: ignore[arg-type]


def busy(device: str = "node", component: str = "node") -> Channel:
    return Channel(catalogue.UTILIZATION, (component, device, "busy"), Measures.BUSY)


class Book:
    """A ledger ticked by hand; sources are the first label parts of the channels given."""

    def __init__(self, **rules: object) -> None:
        self.board = Board()
        settings: dict[str, object] = {"prefer": PREFER, "model_patience_s": 0.0, **rules}
        self.ledger = Ledger(self.board, Rules(**settings))  # type: ignore[arg-type]
        self.now_s = 0.0
        self.own_cpu_s = 0.0

    def tick(
        self,
        values: dict[Channel, float],
        after_s: float = 1.0,
        silent: tuple[str, ...] = (),
        faults: tuple[Fault, ...] = (),
        *,
        complete: bool = True,
    ) -> None:
        """One tick: every channel reads its value; sources in `silent` give nothing."""
        self.now_s += after_s
        at_ns = round(self.now_s * NANOSECONDS_PER_SECOND)
        by_source: dict[str, list[Reading]] = {}
        for channel, value in values.items():
            source = channel.label("source") or "cpu"
            by_source.setdefault(source, []).append(Reading(channel, value, at_ns))
        for source, readings in by_source.items():
            self.ledger.fold(source, 1.0, Batch(tuple(readings), faults))
        for source in silent:
            self.ledger.silence(source)
        self.ledger.close(at_ns, self.own_cpu_s, complete=complete)

    def samples(self, metric: catalogue.Metric) -> dict[tuple[str, ...], float]:
        layout, values = self.board.freeze()
        snapshot = Snapshot(1, 1, 1.0, layout, values)
        return {s.labels: s.value for s in snapshot.samples() if s.metric is metric}

    @property
    def energy(self) -> dict[tuple[str, ...], float]:
        return self.samples(catalogue.COMPONENT_ENERGY)

    @property
    def alternates(self) -> dict[tuple[str, ...], float]:
        return self.samples(catalogue.ALTERNATE_ENERGY)

    @property
    def events(self) -> dict[tuple[str, ...], float]:
        return self.samples(catalogue.METER_EVENTS)


def test_one_meter_is_elected_per_device_and_the_other_is_an_alternate() -> None:
    book = Book()
    msr, mmio = meter("rapl"), meter("rapl-mmio")
    for second in range(11):
        book.tick({mmio: 100.0 * second, msr: 100.0 * second})
    assert book.energy == {msr.labels: pytest.approx(1_000)}
    assert book.alternates == {
        ("component", "cpu", "package-0", "rapl-mmio", "measured"): pytest.approx(1_000)
    }
    assert book.samples(catalogue.NODE_COMPONENT_ENERGY) == {
        ("cpu", "measured"): pytest.approx(1_000)
    }


def test_the_preference_is_the_operators() -> None:
    book = Book(prefer=("rapl-mmio", "rapl"))
    msr, mmio = meter("rapl"), meter("rapl-mmio")
    for second in range(3):
        book.tick({msr: 50.0 * second, mmio: 50.0 * second})
    assert list(book.energy) == [mmio.labels]


def test_when_the_elected_meter_is_lost_another_takes_over_and_no_joule_counts_twice() -> None:
    book = Book()
    msr, mmio = meter("rapl"), meter("rapl-mmio")
    truth = 0.0
    for second in range(200):
        truth = 100.0 * second
        lost = 50 <= second < 150
        values = {mmio: truth} if lost else {mmio: truth, msr: truth}
        book.tick(values, silent=("rapl",) if lost else ())
    total = sum(book.energy.values())
    assert total <= truth + 1e-6
    assert total >= truth - 100.0 * 32
    assert book.energy[mmio.labels] > 0
    watts = book.samples(catalogue.COMPONENT_POWER)
    assert watts == {msr.labels: pytest.approx(100)}


def test_meters_that_tell_different_watts_are_an_event_and_similar_ones_are_not() -> None:
    book = Book()
    msr, near, far = meter("rapl"), meter("rapl-mmio"), meter("hsmp")
    for second in range(190):
        book.tick({msr: 100.0 * second, near: 108.0 * second, far: 70.0 * second})
    assert book.events == {("hsmp", "cpu", "package-0", "disagreement"): 2}


def test_a_model_is_never_elected_beside_a_meter_of_its_component() -> None:
    book = Book()
    rapl, model, other = meter("rapl"), meter("model"), meter("model", "package-1")
    for second in range(10):
        book.tick({model: 20.0 * second, other: 20.0 * second, rapl: 50.0 * second})
    assert book.energy == {rapl.labels: pytest.approx(450)}


def test_a_model_waits_for_meters_that_answer_late() -> None:
    book = Book(model_patience_s=5.0)
    rapl, model = meter("rapl"), meter("model")
    for second in range(10):
        values = {model: 20.0 * second}
        late = second < 3
        book.tick(values if late else {**values, rapl: 50.0 * second}, complete=not late)
    assert list(book.energy) == [rapl.labels]


def test_a_model_stands_in_where_there_is_no_meter() -> None:
    book = Book(model_patience_s=5.0)
    model = meter("model")
    for second in range(11):
        book.tick({model: 20.0 * second})
    assert book.energy == {model.labels: pytest.approx(200)}
    assert book.alternates == {}


def test_mirrored_dies_count_once() -> None:
    book = Book()
    dies = [meter("rapl", f"package-0-die-{die}", twins="package-0") for die in (0, 1)]
    for second in range(60):
        raw = 1_000 + 68.0 * second
        book.tick({dies[1]: raw, dies[0]: raw + (0.02 if second % 7 == 3 else 0)})
    assert book.energy == {dies[0].labels: pytest.approx(68 * 59, abs=0.1)}
    assert book.samples(catalogue.COMPONENT_POWER) == {dies[0].labels: pytest.approx(68, abs=0.1)}
    assert book.events == {("rapl", "cpu", "package-0-die-1", "mirrored"): 1}


def test_independent_dies_both_count_in_full() -> None:
    book = Book()
    dies = [meter("rapl", f"package-0-die-{die}", twins="package-0") for die in (0, 1)]
    for second in range(60):
        book.tick({dies[0]: 1_000 + 68.0 * second, dies[1]: 9_000 + 70.1 * second})
    assert book.energy == {
        dies[0].labels: pytest.approx(68 * 59),
        dies[1].labels: pytest.approx(70.1 * 59),
    }
    assert book.events == {}


def test_a_mirror_stays_silent_while_its_original_is_unreadable() -> None:
    book = Book()
    dies = [meter("rapl", f"package-0-die-{die}", twins="package-0") for die in (0, 1)]
    for second in range(60):
        raw = 1_000 + 68.0 * second
        values = {dies[1]: raw} if 20 <= second < 30 else {dies[0]: raw, dies[1]: raw}
        faults = (Fault(dies[0], Reason.LOST, "gone", 1),) if 20 <= second < 30 else ()
        book.tick(values, faults=faults)
    assert sum(book.energy.values()) == pytest.approx(68 * 59)


def test_a_meter_that_returns_renumbered_goes_on_with_its_account() -> None:
    book = Book()
    first, again = meter("rapl"), meter("rapl")
    for second in range(5):
        book.tick({first: 100.0 * second})
    book.tick({}, silent=("rapl",))
    for second in range(6, 11):
        book.tick({again: 100.0 * second})
    assert book.energy == {first.labels: pytest.approx(1_000)}


def test_gauges_of_a_failed_channel_vanish_and_counters_hold() -> None:
    book = Book()
    one, two = meter("rapl"), meter("rapl", "package-1")
    for second in range(4):
        book.tick({one: 50.0 * second, two: 60.0 * second})
    book.tick({one: 250.0}, faults=(Fault(two, Reason.DENIED, "no", 1),))
    assert book.samples(catalogue.COMPONENT_POWER) == {one.labels: pytest.approx(100)}
    assert book.energy[two.labels] == pytest.approx(180)


def test_a_fully_idle_interval_takes_nothing_back() -> None:
    book = Book()
    one, load = meter("rapl"), busy()
    for second, raw in enumerate((0.0, 50.0, 50.0, 50.0, 90.0)):
        before = book.energy.get(one.labels, 0.0)
        book.tick({one: raw, load: min(second, 1) * 0.5})
        assert book.energy.get(one.labels, 0.0) >= before
    assert book.energy[one.labels] == pytest.approx(90)


def test_a_suspend_credits_nothing_and_is_an_event() -> None:
    book = Book()
    one = meter("rapl", wraps_at_joules=65_532.0)
    book.tick({one: 65_400.0})
    book.tick({one: 65_430.0})
    book.ledger.suspended()
    book.tick({one: 20.0})
    book.tick({one: 50.0})
    assert book.energy[one.labels] == pytest.approx(60)
    assert book.events == {("rapl", "cpu", "package-0", "gap"): 1}


def test_utilisation_is_busy_time_per_time_and_never_above_one() -> None:
    book = Book()
    load = busy()
    shown = []
    for value in (10.0, 10.5, 11.5, 3.0, 3.25, 90.0):
        book.tick({load: value})
        shown.append(book.samples(catalogue.UTILIZATION).get(load.labels))
    assert shown == [None, pytest.approx(0.5), 1.0, None, pytest.approx(0.25), None]


def test_static_power_is_learned_in_quiet_minutes_and_capped_by_any_minute() -> None:
    book = Book()
    one, load = meter("rapl"), busy("package-0", "cpu")
    raw = used = 0.0
    for second in range(600):
        quiet = second % 200 < 100
        raw += 40.0 if quiet else 200.0
        used += 0.01 if quiet else 0.9
        book.tick({one: raw, load: used})
    static = book.samples(catalogue.COMPONENT_STATIC_POWER)
    assert static == {("cpu", "package-0"): pytest.approx(40, abs=1)}


def test_static_power_of_a_machine_that_never_rests_is_absent_unless_configured() -> None:
    for rules, expected in (
        ({}, {}),
        ({"static_watts": {"cpu": 35.0}}, {("cpu", "package-0"): 35.0}),
    ):
        book = Book(**rules)
        one, load = meter("rapl"), busy("package-0", "cpu")
        for second in range(300):
            book.tick({one: 200.0 * second, load: 0.8 * second})
        assert book.samples(catalogue.COMPONENT_STATIC_POWER) == expected


def test_own_energy_is_a_small_share_of_an_idle_machine_and_never_all_of_it() -> None:
    book = Book(cpus=100)
    one, load = meter("rapl"), busy()
    for second in range(101):
        book.own_cpu_s = 0.001 * second
        book.tick({one: 100.0 * second, load: 0.00002 * second})
    own = book.samples(catalogue.SELF_ENERGY)[("measured",)]
    assert 0 < own < 1.0


def test_the_floor_refers_to_the_inlet_if_there_is_one() -> None:
    book = Book(sink_celsius=26.85)
    one = meter("rapl")
    inlet = Channel(catalogue.TEMPERATURE, ("node", "chassis", "inlet"), Measures.LEVEL)
    die = Channel(catalogue.TEMPERATURE, ("cpu", "package-0", "die"), Measures.LEVEL)
    book.tick({one: 0.0})
    book.tick({one: 1.0})
    assert book.samples(catalogue.LANDAUER) == {
        ("cpu", "package-0", "sink"): pytest.approx(2.870979e-21, rel=1e-6)
    }
    book.tick({one: 2.0, inlet: 20.0, die: 76.85})
    assert book.samples(catalogue.LANDAUER) == {
        ("cpu", "package-0", "sink"): pytest.approx(2.805425e-21, rel=1e-6),
        ("cpu", "package-0", "die"): pytest.approx(3.349475e-21, rel=1e-6),
    }
    assert book.samples(catalogue.REFERENCE_TEMPERATURE) == {
        ("sink", "measured"): pytest.approx(293.15)
    }


def test_two_sources_may_not_expose_the_same_series() -> None:
    book = Book()
    inlet = Channel(catalogue.TEMPERATURE, ("node", "chassis", "inlet"), Measures.LEVEL)
    again = Channel(catalogue.TEMPERATURE, ("node", "chassis", "inlet"), Measures.LEVEL)
    assert book.ledger.fold("one", 1.0, Batch((Reading(inlet, 20.0, 1),))) == ()
    (fault,) = book.ledger.fold("two", 1.0, Batch((Reading(again, 21.0, 1),)))
    assert fault.reason is Reason.BUG


@given(
    st.lists(st.lists(st.sampled_from(["rapl", "rapl-mmio", "model"]), max_size=3), max_size=80),
    st.floats(1, 500),
)
def test_whoever_answers_the_device_never_exceeds_its_true_energy(
    answers: list[list[str]], watts: float
) -> None:
    """Meters come and go at random: the elected ones together never count more than was spent."""
    book = Book()
    channels = {name: meter(name) for name in ("rapl", "rapl-mmio", "model")}
    truth = 0.0
    for answering in answers:
        truth += watts * 10
        present = {channels[name]: truth for name in answering}
        silent = tuple(name for name in channels if name not in answering)
        book.tick(present, after_s=10, silent=silent)
        assert sum(book.energy.values()) <= truth * (1 + 1e-9)


# -- processes that come and go -------------------------------------------------------------------


def process(pid: int) -> Channel:
    labels = ("gpu", "GPU-1", f"process:{pid}", "nvml", "modelled")
    return Channel(catalogue.PART_ENERGY, labels, Measures.ENERGY)


def gpu(pids: range, joules: float) -> dict[Channel, float]:
    """A GPU that has spent so much, and as much by each process that runs on it."""
    board = Channel(
        catalogue.COMPONENT_ENERGY, ("gpu", "GPU-1", "nvml", "measured"), Measures.ENERGY
    )
    idle = Channel(
        catalogue.PART_ENERGY, ("gpu", "GPU-1", "idle", "nvml", "modelled"), Measures.ENERGY
    )
    return {board: joules, idle: joules} | {process(pid): joules for pid in pids}


def bytes_held_by(book: Book) -> int:
    """Bytes of all that can be reached from it, whatever other tests and threads hold."""
    shared = (type, ModuleType, FunctionType, BuiltinFunctionType)
    seen = {id(book): book}
    new: list[object] = [book]
    while new:
        found = (one for one in gc.get_referents(*new) if not isinstance(one, shared))
        fresh = {id(one): one for one in found if id(one) not in seen}
        seen.update(fresh)
        new = list(fresh.values())
    return sum(map(sys.getsizeof, seen.values()))


def test_ten_thousand_processes_one_after_another_take_no_more_memory_than_a_few() -> None:
    book = Book(terms=Terms(keep_s=10.0))
    sums: list[float] = []
    held: list[int] = []
    for second in range(1_000):
        book.tick(gpu(range(10 * second, 10 * second + 10), 100.0 * second))
        sums.append(sum(book.energy.values()))
        if second in {299, 999}:
            held.append(bytes_held_by(book))
    assert sums == sorted(sums)
    assert sums[-1] == pytest.approx(99_900)
    parts = book.samples(catalogue.PART_ENERGY)
    assert parts["gpu", "GPU-1", "idle", "nvml", "modelled"] == pytest.approx(99_900)
    assert len(parts) == 1 + 10 * 11
    assert book.board.count() < 400
    assert held[1] - held[0] < 32 * 1024, held


def test_a_process_is_kept_for_the_set_time_after_its_end_and_then_dropped() -> None:
    book = Book(terms=Terms(keep_s=10.0))
    labels = process(7).labels
    for second in range(5):
        book.tick(gpu(range(7, 8), 100.0 * second))
    for second in range(5, 15):
        book.tick(gpu(range(0), 100.0 * second))
        assert book.samples(catalogue.PART_ENERGY)[labels] == pytest.approx(400)
    book.tick(gpu(range(0), 1_500.0))
    assert labels not in book.samples(catalogue.PART_ENERGY)
    assert labels not in book.samples(catalogue.PART_POWER)
    for second in range(16, 20):
        book.tick(gpu(range(7, 8), 100.0 * second))
    assert book.samples(catalogue.PART_ENERGY)[labels] == pytest.approx(300)


def test_processes_that_ended_are_bounded_whatever_the_set_time() -> None:
    book = Book(terms=Terms(keep_s=1e6))
    for second in range(13):
        book.tick(gpu(range(100 * second, 100 * second + 100), 100.0 * second))
        book.tick(gpu(range(100 * second, 100 * second + 100), 100.0 * second + 50))
    assert len(book.samples(catalogue.PART_ENERGY)) == 1 + 100 + MOST_VANISHED


def test_parts_that_are_no_processes_stay_when_they_are_silent() -> None:
    book = Book(terms=Terms(keep_s=10.0))
    for second in range(3):
        book.tick(gpu(range(0), 100.0 * second))
    for _ in range(30):
        book.tick({}, silent=("nvml",))
    idle = book.samples(catalogue.PART_ENERGY)["gpu", "GPU-1", "idle", "nvml", "modelled"]
    assert idle == pytest.approx(200)


def test_impossible_operations_are_one_event_of_the_device_and_the_meters_faults_are_none() -> None:
    book = Book()
    pipes = [
        Channel(
            catalogue.OPERATIONS, ("gpu", "GPU-1", pipe, "nvml-gpm", "modelled"), Measures.LEVEL
        )
        for pipe in ("fp16", "fp32")
    ]
    faults = [Fault(pipe, Reason.GARBLED, "beyond the physical peak", 1) for pipe in pipes]
    faults.append(Fault(process(7), Reason.GARBLED, "not a number", 1))
    book.tick(gpu(range(0), 0.0), faults=tuple(faults))
    assert book.events == {("nvml-gpm", "gpu", "GPU-1", "rejected"): 1.0}
