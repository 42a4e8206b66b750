"""`captionloop models promote --gated`: what a deployment may and may not promote."""

from pathlib import Path

import pytest

from captionloop.errors import RegistryError
from captionloop.registry.gate import GateDecision

pytestmark = pytest.mark.integration


def decision(promoted: bool = True, champion: str | None = "version 1") -> GateDecision:
    reason = "Promoted: no worse." if promoted else "Not promoted: CIDEr fell."
    return GateDecision(
        promoted=promoted, reason=reason, candidate="it", champion=champion, evaluation_set="e", photos=2,
        margin=0.03, seed=0, difference=None, checks=(),
    )  # fmt: skip


@pytest.fixture
def gated(registry, make_bundle):
    """A champion, and a challenger that the gate passed against it."""
    registry.promote(registry.register(make_bundle("one")).version)
    registry.register(make_bundle("two"))
    registry.record_decision(2, decision(), "")
    return registry


def champion(registry) -> int:
    return registry.champion().version


def test_what_the_gate_passed_is_promoted_and_again_changes_nothing(gated) -> None:
    assert gated.promote_gated(2).is_champion
    assert gated.promote_gated(2).replaced == 1


def test_a_first_version_that_passed_the_floors_is_promoted(registry, make_bundle) -> None:
    registry.register(make_bundle())
    registry.record_decision(1, decision(champion=None), "")
    assert registry.promote_gated(1).is_champion


def test_what_the_gate_refused_or_never_saw_stays_out(gated, make_bundle) -> None:
    gated.record_decision(2, decision(promoted=False), "")
    with pytest.raises(RegistryError, match="gate refused it: Not promoted: CIDEr fell"):
        gated.promote_gated(2)
    gated.register(make_bundle("three"))
    with pytest.raises(RegistryError, match="was not brought to the gate"):
        gated.promote_gated(3)
    assert champion(gated) == 1


def test_a_decision_about_another_champion_is_out_of_date(gated, make_bundle) -> None:
    gated.promote(gated.register(make_bundle("three")).version)
    with pytest.raises(RegistryError, match=r"compared it with version 1, but the champion is now version 3"):
        gated.promote_gated(2)
    assert champion(gated) == 3


def test_a_version_that_was_rolled_back_does_not_come_back(gated) -> None:
    gated.promote_gated(2)
    gated.rollback()
    with pytest.raises(RegistryError, match="was rolled back on"):
        gated.promote_gated(2)
    assert champion(gated) == 1


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"flipped"), Path.unlink])
def test_a_bundle_damaged_after_the_gate_is_refused(gated, damage) -> None:
    damage(Path(gated.version(2).source) / "model.safetensors")
    with pytest.raises(RegistryError, match="missing or damaged"):
        gated.promote_gated(2)
    assert champion(gated) == 1
