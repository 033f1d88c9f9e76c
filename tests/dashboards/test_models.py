"""What panels about models answer in fleets that are unlike the tests' own, by Prometheus' tester.

A model on CPUs has no node, a cluster without a PUE no facility; and people record budgets,
training and carbon in rules of their own, which name neither job nor instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.dashboards.board import boards
from tests.prom.answers import expect

if TYPE_CHECKING:
    from pathlib import Path

ASKS: Final = [ask for board in boards() for ask in board.asks()]
POWER: Final = "model:joulefloor_power_watts:sum"
PER_TOKEN: Final = "model:joulefloor_joules_per_token:ratio5m"  # noqa: S105  no password
WATTS: Final = {
    # Accelerators in a cluster with a PUE, in one without, and CPUs.
    ("berlin", "large"): {"device": 100, "node": 200, "pool": 300, "facility": 450},
    ("paris", "small"): {"device": 400, "node": 600, "pool": 600},
    ("paris", "on-cpus"): {"device": 4000},
}
TOKENS_S: Final = 10
"""Of every model."""
each_line = pytest.mark.parametrize("major", [2, 3], ids="prometheus{}".format)


def fleet(*models: tuple[str, str]) -> dict[str, float]:
    """Recorded series of these models, as (cluster, model)."""
    found: dict[str, float] = {}
    for cluster, model in models:
        names = f'cluster="{cluster}",model="{model}"'
        found[f'model:joulefloor_tokens:rate5m{{{names},direction="output"}}'] = TOKENS_S
        for boundary, watts in WATTS[cluster, model].items():
            found[f'{POWER}{{{names},boundary="{boundary}"}}'] = watts
            found[f'{PER_TOKEN}{{{names},boundary="{boundary}"}}'] = watts / TOKENS_S
    return found


def panel(title: str, **chosen: str) -> list[str]:
    """The expressions of a panel on the dashboard *Inference*, with what is chosen there."""
    where = f"Joulefloor / Inference / {title} ["
    found = [ask.filled(**chosen) for ask in ASKS if ask.where.startswith(where)]
    assert found, title
    return found


@each_line
def test_a_boundary_is_over_the_one_inside_of_the_same_models(tmp_path: Path, major: int) -> None:
    ratios = [(200 + 600) / (100 + 400), (300 + 600) / (200 + 600), 450 / 300]
    answers = {
        expr: {"{}": ratio}
        for expr, ratio in zip(panel("Each boundary over the one inside"), ratios, strict=True)
    }

    expect(tmp_path, major, fleet(*WATTS), answers)


@pytest.mark.parametrize(
    ("models", "bars"),
    [
        (list(WATTS), [10, 20, 30, 45]),
        ([("paris", "small"), ("paris", "on-cpus")], [40, 60, 60, None]),
        ([("paris", "on-cpus")], [400, None, None, None]),
    ],
    ids=["one with a facility", "none with a facility", "on CPUs only"],
)
@each_line
def test_the_bars_of_all_boundaries_are_of_the_same_models(
    tmp_path: Path, major: int, models: list[tuple[str, str]], bars: list[float | None]
) -> None:
    answers: dict[str, dict[str, float]] = {
        expr: {} if bar is None else {"{}": bar}
        for expr, bar in zip(panel("By boundary"), bars, strict=True)
    }

    expect(tmp_path, major, fleet(*models), answers)


@each_line
def test_what_people_state_is_shown_for_one_cluster_and_one_node(
    tmp_path: Path, major: int
) -> None:
    chosen = {"cluster": "berlin", "instance": "node-1", "job": "joulefloor"}
    grid = "joulefloor_grid_carbon_intensity_grams_per_kilowatt_hour"
    series = fleet(*WATTS) | {
        'joulefloor_model_energy_budget_joules_per_token{model="large"}': 40,
        'joulefloor_model_training_energy_joules{model="large"}': 3e9,
        f'{grid}{{zone="EU",basis="market",source="a"}}': 300,
        f'{grid}{{cluster="berlin",zone="DE",basis="average",source="a"}}': 350,
        f'{grid}{{cluster="paris",zone="FR",basis="average",source="a"}}': 50,
    }
    (used,) = panel("Energy budget used", **chosen)
    training = panel("Training and break-even", **chosen)[0]
    (carbon,) = panel("Carbon intensity of the grid", **chosen)
    answers: dict[str, dict[str, float]] = {
        used: {'{model="large"}': 0.5},
        training: {'{model="large"}': 3e9},
        carbon: {'{zone="DE",basis="average"}': 350, '{zone="EU",basis="market"}': 300},
    }

    expect(tmp_path, major, series, answers)
