"""The simulations behind docs/gate.md, small: they decide as the gate does, and show what it is there for."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from captionloop.scoring.bootstrap import paired_bootstrap
from captionloop.scoring.scores import Scores


@pytest.fixture
def simulation(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project_root)
    return importlib.import_module("benchmarks.anchor_simulation")


@pytest.fixture
def world(simulation: ModuleType):
    """Photos on which an answer is worth about 4 where it is right, and about 2 where it is not."""
    rng = np.random.default_rng(0)
    levels = np.array([[4.0], [4.0], [2.0], [2.0]])
    scores = levels + rng.normal(0, 0.8, (4, 500))
    return simulation.World(scores, 1000, 0.22, 0.3, 200, 3.2)


def test_the_simulated_interval_is_the_gates(simulation: ModuleType) -> None:
    rng = np.random.default_rng(3)
    one, other = rng.gamma(2, 1, 80), rng.gamma(2, 1, 80)
    weights = np.random.default_rng(0).multinomial(80, np.full(80, 1 / 80), size=300)
    found = simulation.lowest((weights / 80).astype(np.float32), (other - one)[None], 0.99)
    ids = tuple(map(str, range(80)))
    a, b = (Scores(ids, {"CIDEr": np.column_stack([each, np.ones(80)])}) for each in (one, other))
    expected = paired_bootstrap(a, b, "CIDEr", seed=0, resamples=300, confidence=0.99).interval.low
    assert found[0] == pytest.approx(expected, abs=1e-5)


def test_half_margins_add_up_without_an_anchor_and_not_with_one(simulation: ModuleType, world) -> None:
    half = simulation.WAYS[0]
    alone, anchored = (
        simulation.walk(world, half, simulation.Rule("", confidence), rounds=12, trials=10)
        for confidence in (None, 0.99)
    )
    assert alone.below_anchor == 1
    assert alone.end < -3 * world.margin
    assert anchored.below_anchor == anchored.below_best == 0
    assert anchored.end > -1.0001 * world.margin


def test_models_are_as_good_as_they_are_meant_to_be(simulation: ModuleType, world) -> None:
    simulated = simulation._Simulation(world, 40, np.random.default_rng(0))
    ciders = simulated.measured_scores(np.full(40, 2.8))
    right, wrong = world.levels()
    assert (right, wrong) == pytest.approx((4, 2), abs=0.1)
    assert ciders.mean() == pytest.approx(2.8, abs=0.05)


def test_simulated_fresh_feedback_refuses_what_is_much_worse(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(project_root)
    fresh = importlib.import_module("benchmarks.fresh_feedback")
    pairs = {pair.kind: pair for pair in fresh.simulated_pairs(60)}
    equal = fresh.refusals(pairs["equal"], 30, 40, 0.0, 200)
    assert equal.refused <= 0.15
    example = fresh.Pair(
        "as they are",
        pairs["equal"].references,
        lambda place, _: (pairs["equal"].references[place][0], ["dog"]),
    )
    assert fresh.refusals(example, 30, 10, 0.0, 200).refused == 1


def test_a_simulated_collapse_of_one_kind_is_found(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(project_root)
    guard = importlib.import_module("benchmarks.guardrail_simulation")
    rng = np.random.default_rng(0)
    night = guard.Subgroup("light", "night", np.arange(400) < 100)
    world = guard.World(
        np.array([[4.0], [4.0], [1.0], [1.0]]) + rng.normal(0, 0.5, (4, 400)),
        np.array([[0.0], [0.0], [1.0], [1.0]]) * np.ones(400),
        [night, guard.Subgroup("light", "day", ~night.member)],
    )
    asked = {"photos": 1000, "same": 0.4, "trials": 8}
    fallen = guard.simulate(world, 3.0, 0.6, night, **asked)
    assert fallen.right_kind == 1 and abs(fallen.cider) < 0.1
    equal = guard.simulate(world, 3.0, 0.0, None, **asked)
    assert equal.collapses == equal.invents == 0
    assert guard.simulate(world, 3.0, 0.8, None, **asked).invents == 1
