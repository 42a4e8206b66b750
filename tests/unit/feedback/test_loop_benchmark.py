"""The play of the whole loop: its environment and parameters are those of the pipelines that it runs."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def benchmarks(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(project_root)


def test_parameters_are_given_by_names_with_dots() -> None:
    given = importlib.import_module("benchmarks.loop.__main__").parameters_given
    assert given("epochs=12,retraining.replay=1.5") == {"epochs": 12, "retraining": {"replay": 1.5}}
    assert given(None) == given("") == {}


def test_a_play_is_of_its_environment(tmp_path: Path) -> None:
    play = importlib.import_module("benchmarks.loop.play")
    changes = {"epochs": 12, "retraining": {"replay": 1.5}}
    for env, decoders in ((None, 2), ("pretrained", 1)):
        game = play.Play(tmp_path / str(env), env, tmp_path, changes)
        retraining = game.configured("retraining")
        game.store.close()
        assert (retraining["epochs"], retraining["replay"]) == (12, 1.5)
        assert retraining["decoders"] == decoders


def test_with_no_rounds_only_the_beginning_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = importlib.import_module("benchmarks.loop.play")
    world = importlib.import_module("benchmarks.loop.world").World([], [], [], [], {"a": ["a cup"]})

    class Game:
        def champion(self) -> str:
            return "champion"

        def add_gold(self, _: object) -> None:
            """None."""

    monkeypatch.setattr(play, "cider", lambda champion, pictures: 0.25)
    monkeypatch.setattr(play, "_first", lambda champion, world: 3.5)
    (only,) = play.play(Game(), world, None, rounds=0, ratings=0)
    assert (only.number, only.shifted, only.first) == (0, 0.25, 3.5)
