"""What was done to versions, and where it leads back to."""

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionloop.errors import RegistryError
from captionloop.registry import history
from captionloop.registry.gate import GateDecision
from captionloop.registry.history import ACTOR, HistoryEntry, champions, completed
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import REPLACED, ROLLED_BACK, ModelVersion


def promoted(version: int, number: int = 0) -> HistoryEntry:
    return HistoryEntry(action="promote", version=version, champion=version, number=number)


def given_back(version: int, to: int, number: int = 0) -> HistoryEntry:
    return HistoryEntry(action="rollback", version=version, champion=to, number=number)


def test_rollbacks_after_a_promotion_by_hand_reach_the_first_champion_and_stop() -> None:
    lines = [promoted(each, number) for number, each in enumerate((1, 2, 3, 2))]
    walked, current = [], 2
    while (back := champions(lines).before(current, {1, 2, 3})) is not None:
        lines.append(given_back(current, back, len(lines)))
        walked.append(back)
        current = back
    assert walked == [3, 1]


@given(st.lists(st.integers(1, 5) | st.none(), max_size=40))
def test_a_rollback_never_leads_to_what_was_taken_back_and_a_row_of_them_ends(
    deeds: list[int | None],
) -> None:
    """A number is a promotion by hand, None a rollback."""
    lines: list[HistoryEntry] = []
    current, taken_back = None, set()
    for number, deed in enumerate([*deeds, *[None] * 6]):
        if deed is not None:
            lines.append(promoted(deed, number))
            taken_back.discard(deed)
            current = deed
        elif current is not None:
            back = champions(lines).before(current, range(1, 6))
            if back is None:
                continue
            assert back not in taken_back | {current}
            lines.append(given_back(current, back, number))
            taken_back.add(current)
            current = back
        assert champions(lines).current == current
    assert current is None or champions(lines).before(current, range(1, 6)) is None


def old(
    version: int, *, champion: bool = False, replaced: int | None = None, compared: str = ""
) -> ModelVersion:
    return ModelVersion(
        "captioner", version, "f", datetime(2026, 11, version, tzinfo=UTC), "", "", replaced=replaced,
        aliases=("champion",) if champion else (),
        gate={"promoted": "true", "reason": "Promoted.", "champion": compared} if compared else {},
    )  # fmt: skip


def test_a_registry_without_a_history_has_the_one_of_its_tags() -> None:
    """1, 2, 3 were promoted, then 2 by hand: by its tags, 3 and 2 replaced each other."""
    versions = [old(1), old(2, champion=True, replaced=3, compared="version 1"), old(3, replaced=2)]
    lines = completed([], versions)
    assert [(line.action, line.version) for line in lines] == [
        ("register", 1), ("register", 2), ("pass", 2), ("register", 3), ("found", 2),
    ]  # fmt: skip
    assert all(line.derived for line in lines)
    recorded = champions(lines)
    assert (recorded.served, recorded.before(2, {1, 2, 3})) == ((1, 3, 2), 3)


def test_lines_of_a_later_form_are_read() -> None:
    value = '{"action": "verify", "version": 1, "number": 3, "outcome": "passed", "weather": "fine"}'
    tags = {"captionloop.history.00000003.x": value, "captionloop.history.00000004.y": "{", "other": "tag"}
    client = SimpleNamespace(get_registered_model=lambda _: SimpleNamespace(tags=tags))
    assert [line.outcome for line in history.read(client, "it")] == ["passed"]


def decision(promoted: bool = True, champion: str | None = "version 1") -> GateDecision:
    return GateDecision(
        promoted=promoted, reason="It is so.", candidate="it", champion=champion, evaluation_set="e",
        photos=2, margin=0.03, seed=0, difference=None, checks=(),
    )  # fmt: skip


@pytest.mark.integration
class TestInMlflow:
    def test_every_deed_is_one_line(self, registry, make_bundle, monkeypatch) -> None:
        registry.promote(registry.register(make_bundle("one")).version, why="the first")
        monkeypatch.setenv(ACTOR, "airflow:retraining/r1/deploy")
        registry.register(make_bundle("two"))
        registry.register(make_bundle("two"))
        registry.record_decision(2, decision(), "")
        registry.record_decision(2, decision(), "")  # the run was repeated
        registry.promote_gated(2)
        registry.note(HistoryEntry(action="verify", version=2, outcome="failed", why="it is silent"))
        registry.rollback(why="it is silent")
        with pytest.raises(RegistryError, match="was rolled back on"):
            registry.promote_gated(2)
        recorded = [(line.action, line.version, line.champion, line.before) for line in registry.history()]
        assert recorded == [
            ("register", 1, None, None), ("promote", 1, 1, None), ("register", 2, None, None),
            ("pass", 2, None, None), ("promote", 2, 2, 1), ("verify", 2, None, None), ("rollback", 2, 1, 2),
            ("refuse", 2, None, None),
        ]  # fmt: skip
        assert [line.number for line in registry.history()] == list(range(1, 9))
        assert {line.by for line in registry.history()[2:]} == {"airflow:retraining/r1/deploy"}
        assert registry.history()[0].by.startswith("user:")

    def test_one_two_three_and_two_by_hand_roll_back_to_one(self, registry, make_bundle) -> None:
        for name in ("one", "two", "three"):
            registry.promote(registry.register(make_bundle(name)).version)
        registry.promote(2)
        assert [registry.rollback().version, registry.rollback().version] == [3, 1]
        with pytest.raises(RegistryError, match="or all before it were rolled back"):
            registry.rollback()
        assert registry.champion().version == 1 and registry.previous() is None

    def test_a_registry_from_before_rolls_back_by_its_tags(self, registry, make_bundle) -> None:
        for name in ("one", "two", "three"):
            registry.register(make_bundle(name))
        client, name = registry._client, registry.name
        for key in [key for key in client.get_registered_model(name).tags if key.startswith(history.PREFIX)]:
            client.delete_registered_model_tag(name, key)
        client.set_model_version_tag(name, "2", REPLACED, "1")
        client.set_model_version_tag(name, "3", REPLACED, "2")
        client.set_model_version_tag(name, "3", ROLLED_BACK, "2030-11-20T10:00:00+00:00")
        client.set_registered_model_alias(name, "champion", "2")
        assert registry.previous().version == 1
        assert [line.action for line in registry.history()] == [
            "register", "register", "register", "rollback", "found",
        ]  # fmt: skip
        assert registry.rollback().version == 1
        assert [line.action for line in registry.history()][-2:] == ["found", "rollback"]

    def test_a_champion_that_was_made_elsewhere_is_noted_before_it_is_replaced(
        self, registry, make_bundle
    ) -> None:
        for name in ("one", "two", "three"):
            registry.register(make_bundle(name))
        registry.promote(1)
        registry._client.set_registered_model_alias(registry.name, "champion", "2")
        registry.promote(3)
        line = registry.history()[-2]
        assert (line.action, line.version, line.before) == ("found", 2, 1)
        assert registry.rollback().version == 2

    def test_lines_that_are_written_at_the_same_time_all_stay(self, registry, make_bundle) -> None:
        registry.register(make_bundle())
        before = len(registry.history())

        def write(who: int) -> None:
            own = ModelRegistry(registry.tracking_uri, registry.name)
            for turn in range(5):
                own.note(HistoryEntry(action="verify", version=1, outcome="passed", why=f"{who} {turn}"))

        threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({line.why for line in registry.history()[before:]}) == 20
