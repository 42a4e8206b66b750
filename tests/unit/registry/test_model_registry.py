import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from captionloop.errors import RegistryError
from captionloop.registry import model_version
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.promotion import begin_trial
from captionloop.serving.model_sources import RegistrySource, TrialSource

pytestmark = pytest.mark.integration


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


def names(registry: ModelRegistry) -> dict[str, int]:
    return {alias: version.version for version in registry.versions() for alias in version.aliases}


def test_an_empty_registry_is_looked_at_without_making_a_store(tmp_path: Path) -> None:
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert registry.versions() == []
    assert registry.champion() is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RegistryError, match="make demo"):
        registry.version("champion")


def test_a_version_carries_its_metrics_and_lineage(registry, make_bundle) -> None:
    version = registry.register(
        make_bundle(), metrics={"CIDEr": 0.58, "BLEU-4": 0.24}, lineage={"git_commit": "c2a945b"}
    )
    assert (version.version, version.aliases) == (1, ("challenger",))
    assert version.metrics == {"CIDEr": 0.58, "BLEU-4": 0.24}
    assert version.lineage == {"git_commit": "c2a945b"}
    assert version.passed_gate is None


def test_the_same_model_is_registered_once(registry, make_bundle) -> None:
    first = registry.register(make_bundle("one"))
    registry.register(make_bundle("two"))
    again = registry.register(make_bundle("one", commit="another"))
    assert again.version == first.version
    assert len(registry.versions()) == 2


def test_the_challenger_is_the_newest_candidate(registry, make_bundle) -> None:
    registry.register(make_bundle("one"))
    registry.promote(1)
    registry.register(make_bundle("two"))
    assert names(registry) == {"champion": 1, "challenger": 2}


def test_promotion_remembers_what_it_replaced(registry, make_bundle) -> None:
    for name in ("one", "two"):
        registry.promote(registry.register(make_bundle(name)).version)
    assert names(registry) == {"champion": 2, "challenger": 2, "previous": 1}
    assert registry.previous() == registry.version(1)


def test_promoting_the_champion_changes_nothing(registry, make_bundle) -> None:
    for name in ("one", "two"):
        registry.promote(registry.register(make_bundle(name)).version)
    before = registry.versions()
    registry.promote("champion")
    assert registry.versions() == before


def test_rollback_goes_back_one_champion_at_a_time(registry, make_bundle) -> None:
    for name in ("one", "two", "three"):
        registry.promote(registry.register(make_bundle(name)).version)
    assert registry.rollback().version == 2
    assert names(registry)["previous"] == 1
    assert registry.version(3).rolled_back
    assert registry.rollback().version == 1
    assert "previous" not in names(registry)
    with pytest.raises(RegistryError, match="is the first champion"):
        registry.rollback()


def test_without_a_champion_there_is_nothing_to_roll_back(registry, make_bundle) -> None:
    registry.register(make_bundle())
    with pytest.raises(RegistryError, match="has no champion"):
        registry.rollback()


def test_a_version_promoted_again_by_hand_is_rolled_back_no_more(registry, make_bundle) -> None:
    for name in ("one", "two"):
        registry.promote(registry.register(make_bundle(name)).version)
    registry.rollback()
    assert registry.promote(2).rolled_back is None
    assert names(registry) == {"champion": 2, "challenger": 2, "previous": 1}


@pytest.mark.parametrize("asked", [7, "7", "v7", "canary", "-1", "²", ""])
def test_an_unknown_version_is_one_clear_line(registry, make_bundle, asked) -> None:
    registry.register(make_bundle())
    with pytest.raises(RegistryError, match=r"There is no captioner .* the versions are 1"):
        registry.version(asked)


def test_a_fetched_bundle_is_the_registered_one(registry, make_bundle, tmp_path) -> None:
    bundle = make_bundle()
    registry.promote(registry.register(bundle).version)
    fetched = registry.fetch("champion", tmp_path / "here" / "it")
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    assert [path.name for path in fetched.parent.iterdir()] == ["it"]


def test_a_damaged_copy_is_fetched_anew(registry, make_bundle, tmp_path) -> None:
    registry.register(make_bundle())
    fetched = registry.fetch(1, tmp_path / "it")
    (fetched / "model.safetensors").write_bytes(b"flipped")
    registry.fetch(1, tmp_path / "it")
    assert (fetched / "model.safetensors").read_bytes() == b"one"


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"flipped"), Path.unlink])
def test_damaged_artifacts_are_refused_and_leave_nothing(registry, make_bundle, tmp_path, damage) -> None:
    version = registry.register(make_bundle())
    damage(Path(version.source) / "model.safetensors")
    with pytest.raises(RegistryError, match=r"version 1 are missing or damaged \(model.safetensors in"):
        registry.fetch(1, tmp_path / "it")
    assert not list(tmp_path.glob("*it*"))


def test_artifacts_that_are_gone_are_refused(registry, make_bundle, tmp_path) -> None:
    version = registry.register(make_bundle())
    Path(version.source).rename(tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match="version 1"):
        registry.fetch(1, tmp_path / "it")


def test_what_was_kept_beside_a_bundle_comes_back(registry, make_bundle, tmp_path, caplog) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    (evidence / "captions.json").write_text("{}")
    registry.register(make_bundle("one"), evidence=evidence)
    registry.register(make_bundle("two"))
    found = registry.fetch_evidence(1, tmp_path / "found")
    assert [path.name for path in found.iterdir()] == ["captions.json"]
    assert registry.fetch_evidence(2, tmp_path / "none") is None
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert not warned, "to have kept nothing is no failure"


STEPS = ("log_artifacts", "create_registered_model", "create_model_version", "set_registered_model_alias")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_registration_that_was_killed_is_finished_by_the_next(
    registry, make_bundle, monkeypatch, step, moment
) -> None:
    bundle, real = make_bundle(), getattr(registry._client, step)

    def killed(*args: object, **kwargs: object) -> None:
        if moment == "after":
            real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(registry._client, step, killed)
        registry.register(bundle, metrics={"CIDEr": 1.5})
    version = ModelRegistry(registry.tracking_uri, registry.name, "tests").register(
        bundle, metrics={"CIDEr": 1.5}
    )
    assert len(registry.versions()) == 1
    assert version.aliases == ("challenger",)
    assert version.metrics == {"CIDEr": 1.5}


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_promotion_that_was_killed_is_finished_by_the_next(
    registry, make_bundle, monkeypatch, survived
) -> None:
    registry.promote(registry.register(make_bundle("one")).version)
    registry.register(make_bundle("two"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(registry, "_tag", counting_down(survived, registry._tag))
        patch.setattr(registry, "_set_alias", counting_down(max(survived - 1, 0), registry._set_alias))
        registry.promote(2)
    assert names(registry)["champion"] == 1
    registry.promote(2)
    assert names(registry) == {"champion": 2, "challenger": 2, "previous": 1}
    assert registry.rollback().version == 1


def counting_down(calls, real):
    left = [calls]

    def call(*args: object) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        real(*args)

    return call


def test_a_run_that_is_given_holds_the_artifacts(registry, make_bundle) -> None:
    client = registry._client
    registry.run_id = client.create_run(client.get_experiment_by_name("tests").experiment_id).info.run_id
    version = registry.register(make_bundle())
    assert version.run_id == registry.run_id
    assert client.list_artifacts(registry.run_id, f"{version.artifacts}/{model_version.BUNDLE}")


def test_a_server_that_is_away_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers here
        port = taken.getsockname()[1]
        with pytest.raises(RegistryError, match=f"127.0.0.1:{port} does not answer"):
            ModelRegistry(f"http://127.0.0.1:{port}").versions()


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path, caplog) -> None:
    (tmp_path / "mlflow.db").write_text("this is not a database, although it is long enough to be one" * 20)
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(RegistryError) as caught:
        ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}").versions()
    assert "\n" not in str(caught.value)


class Counting:
    """A client that counts what it asks for, and how many versions come back."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.asked: list[str] = []
        self.versions = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any, **options: Any) -> Any:
            self.asked.append(name)
            found = getattr(self._client, name)(*arguments, **options)
            self.versions += len(found) if isinstance(found, list) else 1
            return found

        return ask


def test_whoever_follows_the_champion_asks_for_one_version_however_long_the_history(
    registry, make_bundle, tmp_path: Path
) -> None:
    """The tags of the registered model are its history, which only grows: no poll may bring them along."""
    for name in ("one", "two", "three"):
        registry.promote(registry.register(make_bundle(name)).version)
    counting = Counting(registry._client)
    registry.__dict__["_client"] = counting
    source = RegistrySource(registry, tmp_path)
    found = source.newest()
    assert found is not None and found.version == "3"
    assert (counting.asked, counting.versions) == (["get_model_version_by_alias"], 1)
    champion = registry.champion()
    assert champion is not None and champion == registry.version(3) and champion.is_champion
    counting.asked, counting.versions = [], 0
    assert source.last_registered() == champion.created
    assert (counting.asked, counting.versions) == (["search_model_versions"], 1)


def test_whoever_follows_what_is_tried_asks_for_a_version_each(gated_registry, tmp_path: Path) -> None:
    source = TrialSource(gated_registry, tmp_path)
    counting = Counting(gated_registry._client)
    gated_registry.__dict__["_client"] = counting
    assert source.current_trial() is None
    assert counting.asked == ["get_model_version_by_alias"] * 2
    begin_trial(gated_registry, 2, "canary", 0.5, most=400, days=14)
    counting.asked, counting.versions = [], 0
    wanted = source.current_trial()
    assert wanted is not None and (wanted[0].version, wanted[1].role) == ("2", "canary")
    assert set(counting.asked) == {"get_model_version_by_alias"} and counting.versions <= 3


def test_no_champion_is_nothing_and_an_unreachable_store_is_an_error(registry, make_bundle) -> None:
    assert registry.champion() is None and registry.newest() is None, "there is no such registered model"
    registry.register(make_bundle("one"))
    assert registry.champion() is None
    challenger, newest = registry.challenger(), registry.newest()
    assert challenger is not None and newest is not None and challenger.version == newest.version == 1
