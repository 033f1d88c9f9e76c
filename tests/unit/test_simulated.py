"""The demo machine obeys the first law and stays inside published measurements."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.catalogue import Kind
from joulefloor.curves import Curve, Pulse, Wave
from joulefloor.demo import (
    CPUS,
    GPU_LIMIT_WATTS,
    MEMORY_BYTES,
    MODELS,
    PLACES,
    PSU_EFFICIENCY,
    SERVED,
    machine,
    week_ago,
)
from joulefloor.host import Host
from joulefloor.model import EVERY_DEVICE, IDLE, SYSTEM, Measures
from joulefloor.sources import Site
from joulefloor.sources.simulated import Settings, build
from joulefloor.units import Seconds
from tests.machine import ManualClock

if TYPE_CHECKING:
    from joulefloor.model import Channel
    from joulefloor.sources import Source

times = st.floats(0, 2e6)
curves = st.builds(
    Curve,
    st.floats(-5, 50),
    st.lists(
        st.builds(Wave, st.floats(0, 9), st.floats(1, 900), st.floats(0, 6))
        | st.builds(Pulse, st.floats(0, 9), st.floats(2, 90), st.floats(0.1, 2), st.floats(0, 90)),
        max_size=3,
    ).map(tuple),
)
# GPU J per output token on H100, ML.ENERGY leaderboard (chat; gpt-oss: GPQA): best batch, batch 8.
BANDS = {
    "llama-3.1-8b": (0.0702, 0.455),
    "llama-3.1-70b": (0.373, 3.76),
    "qwen3-14b": (0.112, 0.706),
    "gpt-oss-20b": (0.0442, 0.357),
}
PUBLISHED_BATCH = 8
IDLE_MODEL = "qwen3-32b"


def sources(
    count: int = 8, epoch: float = 0.0, models: tuple[str, ...] = PLACES
) -> tuple[Source, ManualClock, Source]:
    clock = ManualClock()
    settings = Settings(gpus=count, epoch=Seconds(epoch), models=models)
    fast, slow, _ = build(Site(Host(Path("/nowhere")), clock, settings))
    return fast, clock, slow


def snapshot(source: Source) -> dict[tuple[str, tuple[str, ...]], float]:
    return {reading.channel.key: reading.value for reading in source.read().readings}


@given(curve=curves, start=times, seconds=st.floats(0.01, 300))
def test_an_integral_is_the_numeric_integral(curve: Curve, start: float, seconds: float) -> None:
    steps = 4_000
    width = seconds / steps
    numeric = fmean(curve.at(start + (step + 0.5) * width) for step in range(steps)) * seconds
    exact = curve.integral(start + seconds) - curve.integral(start)
    height = 10 + sum(abs(part[0]) for part in curve.parts)
    jumps = 2 * height * width * (2 + seconds) * len(curve.parts)
    assert exact == pytest.approx(numeric, rel=1e-6, abs=1e-4 + jumps)


@pytest.mark.parametrize("start", [0.0, 1_234.5, 5e6])
def test_gpu_energy_equals_the_integral_of_its_power_within_1e_6(start: float) -> None:
    """Over an hour: pulse edges lie on halves of a second, so midpoints of 0.05 s miss none."""
    for card in machine(8).gpus:
        width = 0.05
        numeric = width * sum(card.watts.at(start + (i + 0.5) * width) for i in range(72_000))
        exact = card.watts.integral(start + 3_600) - card.watts.integral(start)
        assert exact == pytest.approx(numeric, rel=1e-6)


@given(factor=st.floats(-3, 3), offset=st.floats(-9, 9), curve=curves, t=times)
def test_scaling_and_adding_curves_scales_and_adds_values(
    factor: float, offset: float, curve: Curve, t: float
) -> None:
    expected = offset + factor * curve.at(t)
    assert curve.scaled(factor, offset).at(t) == pytest.approx(expected, abs=1e-6)
    assert curve.plus(curve, curve).at(t) == pytest.approx(3 * curve.at(t), abs=1e-6)


@given(t=times, seconds=st.floats(1, 600))
def test_the_wall_meter_is_the_sum_of_the_parts_plus_the_loss_of_the_supplies(
    t: float, seconds: float
) -> None:
    fast, clock, _ = sources()
    clock.now_ns = round(t * 1e9)
    before = snapshot(fast)
    clock.advance(seconds)
    after = snapshot(fast)
    spent = {key: after[key] - before[key] for key in after}
    (wall,) = (value for key, value in spent.items() if key[0] == catalogue.NODE_ENERGY.name)
    parts = [value for key, value in spent.items() if key[0] == catalogue.COMPONENT_ENERGY.name]
    assert wall * PSU_EFFICIENCY == pytest.approx(sum(parts), rel=1e-6)


@given(t=times, count=st.integers(1, 16), models=st.lists(st.sampled_from([*MODELS]), min_size=1))
def test_shares_and_powers_stay_in_range_at_any_time(
    t: float, count: int, models: list[str]
) -> None:
    model = machine(count, tuple(models))
    for card in model.gpus:
        assert 0 <= card.load.at(t) <= 1
        assert (90 if card.served.name else 70) < card.watts.at(t) < GPU_LIMIT_WATTS
    for load in model.cpu_load:
        assert 0 <= load.at(t) <= 1
    assert all(watts.at(t) > 0 for watts in model.watts.values())


@given(t=times, seconds=st.floats(0.5, 100))
def test_counters_never_go_down_and_meters_stay_below_what_they_declare(
    t: float, seconds: float
) -> None:
    fast, clock, _ = sources(3)
    clock.now_ns = round(t * 1e9)
    before = fast.read().readings
    clock.advance(seconds)
    for old, new in zip(before, fast.read().readings, strict=True):
        assert new.channel is old.channel
        assert new.value >= old.value or new.channel.metric.kind is not Kind.COUNTER
        if new.channel.measures is Measures.ENERGY:
            assert new.value - old.value <= new.channel.max_watts * seconds
        elif new.channel.measures is Measures.BUSY:
            assert new.value - old.value <= seconds * 1.001


def spent(models: tuple[str, ...], start: int) -> tuple[float, float, float]:
    """GPU joules, output tokens, and requests running, of a machine in the minute after `start`."""
    fast, clock, _ = sources(models=models)
    clock.now_ns = start * 10**9
    before = snapshot(fast)
    clock.advance(60)
    after = snapshot(fast)
    (running,) = (
        value
        for (metric, labels), value in after.items()
        if metric == catalogue.INFERENCE_REQUESTS.name and labels[1] == "running"
    )
    tokens = (catalogue.INFERENCE_TOKENS.name, (f"simulated/{models[0]}", "output"))
    joules = sum(
        after[key] - before[key]
        for key in after
        if key[0] == catalogue.COMPONENT_ENERGY.name and key[1][0] == "gpu"
    )
    return joules, after[tokens] - before[tokens], running


@pytest.mark.parametrize("name", BANDS)
@pytest.mark.parametrize("start", range(0, 600, 60))
def test_joules_per_token_lie_inside_published_measurements(name: str, start: int) -> None:
    """Below the smallest batch that was measured a step takes the same energy, at the most."""
    best, small = BANDS[name]
    joules, tokens, running = spent((name,), start)
    if running < PUBLISHED_BATCH:
        assert small < joules / tokens < small * PUBLISHED_BATCH / running
    else:
        assert best < joules / tokens < small


def test_every_model_that_serves_is_bounded_by_a_measurement() -> None:
    serving = {name for name, served in MODELS.items() if served.tokens_per_s}
    assert serving == set(BANDS)
    assert {served.name.partition("/")[2] for served in SERVED} == {*BANDS, IDLE_MODEL}


def test_one_model_works_in_small_batches_while_requests_wait() -> None:
    small = [name for name, served in MODELS.items() if served.waiting]
    assert small == ["qwen3-14b"]
    assert all(0 < spent((name,), start)[2] < 4 for name in small for start in range(0, 600, 60))


@pytest.mark.parametrize("start", range(0, 600, 60))
def test_one_model_takes_over_1_3_times_the_energy_of_a_week_ago_for_the_same_tokens(
    start: int,
) -> None:
    for name in BANDS:
        (card,) = machine(1, (name,)).gpus
        then = week_ago(card)
        now_j, then_j = (
            gpu.watts.integral(start + 300) - gpu.watts.integral(start) for gpu in (card, then)
        )
        assert card.watts.at(start) >= then.watts.at(start) or card.served.before == 1
        if name == "gpt-oss-20b":
            assert now_j / then_j > 1.35
        else:
            assert now_j / then_j == pytest.approx(1, abs=0.01)


def test_the_building_takes_more_than_the_machine_and_says_so_only_with_a_site() -> None:
    clock = ManualClock()
    fast, _, _ = build(Site(Host(Path("/nowhere")), clock, Settings(site="demo")))
    before = snapshot(fast)
    clock.advance(600)
    after = snapshot(fast)
    name = catalogue.FACILITY_ENERGY.name
    total, it = (
        after[name, labels] - before[name, labels]
        for role in ("total", "it")
        for labels in [("demo", "simulated", role, "simulated", "simulated")]
    )
    assert 1.1 < total / it < 1.4
    plain, _, _ = sources()
    assert not any(channel.metric is catalogue.FACILITY_ENERGY for channel in plain.channels())


def test_gpus_without_a_model_are_held_by_nobody_and_draw_less() -> None:
    clock = ManualClock()
    _, _, bills = build(Site(Host(Path("/nowhere")), clock, Settings(gpus=2, models=("",))))
    held = {labels[1] for metric, labels in snapshot(bills) if metric.endswith("share_ratio")}
    assert held == {EVERY_DEVICE}
    spare, loaded = (machine(1, (name,)).gpus[0].watts.mean for name in ("", IDLE_MODEL))
    assert 26 <= loaded - spare <= 66  # what a context adds: arXiv 2605.23918


@pytest.mark.parametrize("models", [(), ("gpt-5",), ("llama-3.1-8b", "Llama")])
def test_a_model_that_does_not_exist_is_named(models: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"models: must be some of llama-3\.1-8b, "):
        Settings(models=models)


@given(t=times, seconds=st.floats(1, 600))
def test_pods_hold_every_gpu_and_use_no_more_than_the_machine_does(
    t: float, seconds: float
) -> None:
    clock = ManualClock()
    _, _, bills = build(Site(Host(Path("/nowhere")), clock, Settings()))
    clock.now_ns = round(t * 1e9)
    before = snapshot(bills)
    clock.advance(seconds)
    after = snapshot(bills)
    held = {labels[1] for metric, labels in after if metric == catalogue.WORKLOAD_DEVICE_SHARE.name}
    assert held == {EVERY_DEVICE, *(card.device for card in machine(8).gpus)}
    used = {
        labels[1:4]: after[metric, labels] - before[metric, labels]
        for metric, labels in after
        if labels[0] == "cpu"
    }
    busy, idle = used.pop(SYSTEM[:3]), used.pop(IDLE[:3])
    assert busy + idle == pytest.approx(CPUS * seconds, rel=1e-6)
    assert len(used) == len(set(PLACES))
    assert 0 <= sum(used.values()) < busy
    memory = {labels[1:4]: after[m, labels] for m, labels in after if labels[0] == "dram"}
    free = memory.pop(IDLE[:3])
    assert memory[SYSTEM[:3]] + free == pytest.approx(MEMORY_BYTES)
    assert sum(memory.values()) < 2 * memory[SYSTEM[:3]]


def test_the_loaded_but_idle_model_serves_nothing_and_still_costs_power() -> None:
    fast, clock, _ = sources()
    before = snapshot(fast)
    clock.advance(60)
    after = snapshot(fast)
    assert after[catalogue.INFERENCES.name, ("simulated/qwen3-32b",)] == 0
    key = (catalogue.COMPONENT_ENERGY.name, ("gpu", "GPU-sim-6", "simulated", "simulated"))
    assert after[key] - before[key] == pytest.approx(112.0 * 60)


def test_one_gpu_is_held_back_now_and_then_and_no_other() -> None:
    fast, clock, _ = sources()
    before = snapshot(fast)
    clock.advance(2_400)
    after = snapshot(fast)
    held = {
        key[1]: after[key] - before[key]
        for key in after
        if key[0] == catalogue.THROTTLE.name and after[key] > before[key]
    }
    assert held == {("gpu", "GPU-sim-3", "hw_thermal_slowdown"): pytest.approx(180.0)}


def test_every_energy_is_labelled_simulated_and_every_name_says_so() -> None:
    fast, _, slow = sources()
    channels: list[Channel] = [*fast.channels(), *slow.channels()]
    for channel in channels:
        if channel.measures is Measures.ENERGY:
            assert channel.label("method") == "simulated"
        if channel.metric is catalogue.DEVICE_INFO:
            assert channel.label("vendor") == "simulated"
            assert "simulated" in channel.label("model")
        if channel.label("model"):
            assert channel.label("model").startswith("simulated")
    keys = [channel.key for channel in channels]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("asked", "given_count"), [(-3, 1), (1, 1), (8, 8), (16, 16), (99, 16)])
def test_the_number_of_gpus_is_kept_in_range(asked: int, given_count: int) -> None:
    assert len(machine(asked).gpus) == given_count


def test_the_epoch_moves_the_day() -> None:
    ahead, clock, _ = sources(epoch=100.0)
    late, late_clock, _ = sources()
    late_clock.advance(100)
    assert clock.now_ns != late_clock.now_ns
    assert snapshot(ahead) == snapshot(late)


def test_temperatures_and_fans_are_credible() -> None:
    _, clock, slow = sources()
    for _ in range(20):
        clock.advance(97)
        found = snapshot(slow)
        for (metric, labels), value in found.items():
            if metric == catalogue.TEMPERATURE.name:
                assert 20 < value < 90, labels
            if metric == catalogue.FAN_SPEED_RATIO.name:
                assert 0.2 < value <= 1
        inlet = found[catalogue.TEMPERATURE.name, ("node", "chassis", "inlet")]
        assert found[catalogue.TEMPERATURE.name, ("node", "chassis", "outlet")] > inlet
