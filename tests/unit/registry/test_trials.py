"""Who is answered by a canary, and how a trial begins and ends in the registry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionloop.errors import RegistryError
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.promotion import begin_trial, end_trial
from captionloop.registry.trials import Plan, current, is_chosen, ratings_needed, read_plan

BEGAN = datetime(2026, 11, 22, 8, tzinfo=UTC)
PLAN = Plan(role="canary", share=0.1, champion=1, began=BEGAN, most=1112, days=14)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_share_of_the_people_is_chosen_whoever_they_are(share: float) -> None:
    people = [f"person:{number:032x}" for number in range(10_000)]
    chosen = sum(is_chosen(each, "captioner", "5", share) for each in people)
    assert abs(chosen / len(people) - share) < 4 * (share * (1 - share) / len(people)) ** 0.5


@given(st.text(max_size=60), st.floats(0.001, 1), st.floats(0.001, 1))
def test_the_same_people_stay_chosen_when_more_are(rater: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert is_chosen(rater, "captioner", "5", low) == is_chosen(rater, "captioner", "5", low)
    assert is_chosen(rater, "captioner", "5", high) or not is_chosen(rater, "captioner", "5", low)
    assert is_chosen(rater, "captioner", "5", 1.0)


def test_another_version_has_other_people() -> None:
    people = [f"person:{number}" for number in range(4000)]
    both = sum(is_chosen(each, "c", "5", 0.5) and is_chosen(each, "c", "6", 0.5) for each in people)
    assert 0.2 < both / len(people) < 0.3


@pytest.mark.parametrize(("share", "ratings"), [(0.5, 400), (0.2, 625), (0.1, 1112)])
def test_smaller_shares_take_more_ratings(share: float, ratings: int) -> None:
    assert ratings_needed(share) == ratings


def version(number: int, *aliases: str, plan: Plan | None = None, tag: str = "") -> ModelVersion:
    return ModelVersion(
        "captioner", number, "f", BEGAN, "", "", aliases=aliases,
        trial=plan.model_dump_json() if plan else tag,
    )  # fmt: skip


def test_what_is_tried_is_told_by_alias_and_plan_together() -> None:
    versions = [version(2, "canary", plan=PLAN), version(1, "champion")]
    trial = current(versions)
    assert trial is not None and trial.version.version == 2 and not trial.is_void
    assert current([version(2, plan=PLAN), version(1, "champion")]) is None, "ended"
    assert current([version(2, "shadow", plan=PLAN), version(1, "champion")]) is None, "of another trial"
    assert current([version(2, "canary", tag="nonsense"), version(1, "champion")]) is None
    other = current([*versions[:1], version(1), version(3, "champion")])
    assert other is not None and other.is_void, "there is nothing to compare with any more"


def test_a_shadow_answers_nobody_and_a_plan_has_an_end() -> None:
    shadow = PLAN.model_copy(update={"role": "shadow", "share": 1.0})
    trial = current([version(2, "shadow", plan=shadow), version(1, "champion")])
    assert trial is not None and not trial.answers("person:1")
    assert replace(trial, plan=PLAN.model_copy(update={"share": 1.0})).answers("person:1")
    assert not PLAN.is_over(BEGAN + timedelta(days=13)) and PLAN.is_over(BEGAN + timedelta(days=14))
    assert read_plan('{"role": "canary", "share": 2}') is None


def begin(registry: ModelRegistry, number: int, role: str = "canary", share: float = 0.5):
    return begin_trial(registry, number, role, share, most=400, days=14, why="to see")  # type: ignore[arg-type]


def deeds(registry: ModelRegistry) -> list[tuple[str, int, str]]:
    return [(line.action, line.version, line.outcome) for line in registry.history()]


@pytest.mark.integration
def test_a_shadow_becomes_a_canary_and_is_promoted_which_ends_it(gated_registry) -> None:
    assert begin(gated_registry, 2, "shadow").version.aliases == ("shadow",)
    began = begin(gated_registry, 2)
    assert began.version.aliases == ("canary",) and begin(gated_registry, 2).plan == began.plan, (
        "the same once more"
    )
    assert gated_registry.version("canary").version == 2
    assert gated_registry.promote_gated(2).aliases == ("champion",)
    assert current(gated_registry.versions()) is None
    assert deeds(gated_registry)[-5:] == [
        ("shadow", 2, ""), ("end", 2, "stopped"), ("canary", 2, ""), ("end", 2, "stopped"),
        ("promote", 2, ""),
    ]  # fmt: skip
    assert gated_registry.history()[-3].evidence == {"share": 0.5, "beside": 1, "most": 400, "days": 14.0}


@pytest.mark.integration
def test_one_version_is_tried_at_a_time_and_not_beside_itself(gated_registry) -> None:
    begin(gated_registry, 2)
    with pytest.raises(RegistryError, match=r"Version 2 of .* is the canary at present: end that first"):
        begin(gated_registry, 3, "shadow")
    with pytest.raises(RegistryError, match="cannot be tried beside itself"):
        begin(gated_registry, 1)
    assert end_trial(gated_registry, "shadow", "stopped") is None
    assert end_trial(gated_registry, "canary", "stopped", only=3) is None
    assert end_trial(gated_registry, "canary", "stopped", why="by hand") is not None
    assert begin(gated_registry, 3).version.version == 3


@pytest.mark.integration
def test_what_people_liked_less_does_not_come_into_service_by_the_gates_word(gated_registry) -> None:
    begin(gated_registry, 2)
    end_trial(gated_registry, "canary", "worse", why="-0.4 stars", blame=True)
    with pytest.raises(RegistryError, match="was rolled back on"):
        gated_registry.promote_gated(2)
    assert [line.action for line in gated_registry.history() if line.version == 2].count("rollback") == 0
    assert gated_registry.champion().version == 1 and gated_registry.previous() is None


@pytest.mark.integration
def test_a_rollback_ends_a_trial_and_one_beside_a_former_champion_gives_way(gated_registry) -> None:
    gated_registry.promote(3)
    begin(gated_registry, 2)
    gated_registry.rollback()
    assert current(gated_registry.versions()) is None
    begin(gated_registry, 2)
    gated_registry._set_alias("champion", 3)  # in MLflow itself
    trial = current(gated_registry.versions())
    assert trial is not None and trial.is_void
    assert begin(gated_registry, 1).version.version == 1


@pytest.mark.integration
def test_without_a_champion_nothing_is_tried(registry, make_bundle) -> None:
    registry.register(make_bundle("one"))
    with pytest.raises(RegistryError, match="no champion to try"):
        begin(registry, 1)
