"""The prepared renderer says what prometheus-client would say, byte for byte."""

from __future__ import annotations

import gzip
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.utils import floatToGoString

from joulefloor.board import Board
from joulefloor.catalogue import METRICS, Kind, Metric
from joulefloor.exposition import Collector, Renderer, number
from joulefloor.model import EMPTY, Snapshot

finite = st.floats(allow_nan=False, allow_infinity=False)
labels = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any values, absences and label texts over any metrics of the catalogue."""
    board = Board()
    for metric in draw(st.lists(st.sampled_from(METRICS), unique=True, max_size=6)):
        for values in draw(
            st.lists(st.tuples(*[labels] * len(metric.labels)), unique=True, max_size=4)
        ):
            cell = board.cell(metric, values, "test")
            board.put(cell, draw(_values(metric)))
            if draw(st.booleans()):
                board.clear(cell)
    layout, values = board.freeze()
    return Snapshot(draw(st.integers(1, 9)), 1, 1.0, layout, values)


def _values(metric: Metric) -> st.SearchStrategy[float]:
    if metric.kind is Kind.COUNTER:
        return st.floats(0, allow_nan=False, allow_infinity=False)
    return st.just(1.0) if metric.kind is Kind.INFO else finite


def _client(snapshot: Snapshot) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(lambda: snapshot))
    return registry


@given(snapshots())
def test_text_equals_the_reference_encoder(snapshot: Snapshot) -> None:
    ours = Renderer(lambda: snapshot).body(openmetrics=False, compressed=False)
    assert ours == generate_latest(_client(snapshot))


@given(snapshots())
def test_openmetrics_equals_the_reference_encoder(snapshot: Snapshot) -> None:
    ours = Renderer(lambda: snapshot).body(openmetrics=True, compressed=False)
    assert ours == openmetrics_exposition.generate_latest(_client(snapshot))  # type: ignore[no-untyped-call]


@given(finite)
def test_numbers_equal_the_reference(value: float) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


@given(snapshots())
def test_rendering_twice_gives_the_same_bytes(snapshot: Snapshot) -> None:
    first, second = (Renderer(lambda: snapshot) for _ in range(2))
    for openmetrics in (False, True):
        packed = first.body(openmetrics=openmetrics, compressed=True)
        assert packed == second.body(openmetrics=openmetrics, compressed=True)
        assert gzip.decompress(packed) == first.body(openmetrics=openmetrics, compressed=False)


def test_a_new_tick_gives_new_bytes_and_the_same_tick_the_same_object() -> None:
    board = Board()
    cell = board.cell(METRICS[0], ("meter", "measured"), "test")
    current = EMPTY
    renderer = Renderer(lambda: current)
    for seq, value in enumerate((1.0, 2.0), start=1):
        board.put(cell, value)
        layout, values = board.freeze()
        current = Snapshot(seq, seq, 1.0, layout, values)
        body = renderer.body(openmetrics=False, compressed=False)
        assert body is renderer.body(openmetrics=False, compressed=False)
        assert body.endswith(f"{value}\n".encode())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_a_counter_never_shows_what_is_not_a_finite_positive_number(value: float) -> None:
    board = Board()
    cell = board.cell(METRICS[0], ("meter", "measured"), "test")
    assert not board.put(cell, value)
    layout, values = board.freeze()
    snapshot = Snapshot(1, 1, 1.0, layout, values)
    assert Renderer(lambda: snapshot).body(openmetrics=False, compressed=False) == b""


def test_the_board_refuses_wrong_arity_and_a_series_of_somebody_else() -> None:
    board = Board()
    board.cell(METRICS[0], ("meter", "measured"), "one")
    with pytest.raises(ValueError, match="belongs to one"):
        board.cell(METRICS[0], ("meter", "measured"), "two")
    with pytest.raises(ValueError, match="labels"):
        board.cell(METRICS[0], ("meter",), "one")
