"""Promotions that meet: what is checked and what is done are one, whoever else acts in between."""

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from captionloop.errors import RegistryError
from captionloop.registry import lock as lock_module
from captionloop.registry.history import champions
from captionloop.registry.lock import ChangeLock
from captionloop.registry.model_registry import ModelRegistry

pytestmark = pytest.mark.integration


def test_what_is_promoted_while_files_are_fetched_is_not_overwritten(gated_registry, monkeypatch) -> None:
    fetch = gated_registry.check_files

    def meanwhile(version: int) -> None:
        fetch(version)
        ModelRegistry(gated_registry.tracking_uri, gated_registry.name).promote(3)

    monkeypatch.setattr(gated_registry, "check_files", meanwhile)
    with pytest.raises(RegistryError, match="compared it with version 1, but the champion is now version 3"):
        gated_registry.promote_gated(2)
    assert gated_registry.champion().version == 3
    assert [line.action for line in gated_registry.history()][-2:] == ["promote", "refuse"]


def test_a_version_whose_files_were_exchanged_meanwhile_is_not_promoted(gated_registry, monkeypatch) -> None:
    def meanwhile(_: int) -> None:
        gated_registry._tag(2, "captionloop.checksums", '{"model.safetensors": "0"}')

    monkeypatch.setattr(gated_registry, "check_files", meanwhile)
    with pytest.raises(RegistryError, match="was changed while its files were read"):
        gated_registry.promote_gated(2)
    assert gated_registry.champion().version == 1


def test_a_rollback_beside_a_promotion_is_looked_at_again_and_can_be_repeated(
    gated_registry, monkeypatch
) -> None:
    gated_registry.promote(2)
    fetch = gated_registry.check_files

    def meanwhile(version: int) -> None:
        fetch(version)
        ModelRegistry(gated_registry.tracking_uri, gated_registry.name).promote(3)

    monkeypatch.setattr(gated_registry, "check_files", meanwhile)
    with pytest.raises(RegistryError, match="changed meanwhile: look at captionloop models history"):
        gated_registry.rollback(check_files=True)
    monkeypatch.undo()
    assert [line.version for line in gated_registry.history() if line.action == "promote"] == [1, 2, 3]
    assert gated_registry.rollback(check_files=True).version == 2


class Turns:
    """Lets one of several threads go on at a time, chosen by chance at every call of MLflow."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self._chance = random.Random(seed)
        self._waiting = dict.fromkeys(names, False)
        self._changed = threading.Condition()
        self._next: str | None = None

    def step(self, name: str) -> None:
        with self._changed:
            self._waiting[name] = True
            self._choose()
            self._changed.wait_for(lambda: self._next == name, timeout=60)
            self._next, self._waiting[name] = None, False

    def over(self, name: str) -> None:
        with self._changed:
            del self._waiting[name]
            self._choose()

    def _choose(self) -> None:
        if self._waiting and all(self._waiting.values()):
            self._next = self._chance.choice(sorted(self._waiting))
            self._changed.notify_all()


class Stepwise:
    """An MLflow client that waits for its turn before every call."""

    def __init__(self, client: object, step: Callable[[], None]) -> None:
        self._real, self._step = client, step

    def __getattr__(self, name: str) -> Callable[..., object]:
        real = getattr(self._real, name)

        def call(*args: object, **kwargs: object) -> object:
            self._step()
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("seed", range(8))
def test_however_two_promotions_interleave_no_judgement_is_bypassed(
    gated_registry, monkeypatch, seed
) -> None:
    turns = Turns(seed, ["gated", "by hand"])
    monkeypatch.setattr(lock_module, "LOOK_SECONDS", 0)
    errors: dict[str, str] = {}

    def act(name: str, deed: Callable[[ModelRegistry], object]) -> None:
        own = ModelRegistry(gated_registry.tracking_uri, gated_registry.name)
        own.__dict__["_client"] = Stepwise(gated_registry._client, lambda: turns.step(name))
        try:
            deed(own)
            errors[name] = "done"
        except RegistryError as error:
            errors[name] = str(error)
        finally:
            turns.over(name)

    deeds = {
        "gated": lambda own: own.promote_gated(2, check_files=False),
        "by hand": lambda own: own.promote(3),
    }
    threads = [threading.Thread(target=act, args=each) for each in deeds.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors["by hand"] == "done"
    assert gated_registry.champion().version == 3, (
        "by hand, it goes before, or after: it is never overwritten"
    )
    lines = [line for line in gated_registry.history() if line.action == "promote"]
    assert champions(gated_registry.history()).current == 3
    assert all(line.before == 1 for line in lines if line.version == 2)
    assert errors["gated"] == "done" or "but the champion is now version 3" in errors["gated"]


@contextmanager
def left_behind(registry: ModelRegistry, **tags: str):
    """The ticket of a process that was killed."""
    own = ChangeLock(registry._client, registry.name)
    own._take()
    for key, value in tags.items():
        registry._client.set_model_version_tag(
            f"{registry.name}.lock", own._ticket, f"captionloop.{key}", value
        )
    yield


def gone_process() -> str:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return str(child)


def test_a_ticket_of_a_process_that_is_gone_holds_nobody_up(gated_registry) -> None:
    began = time.monotonic()
    with left_behind(gated_registry, process=gone_process()):
        gated_registry.promote(3)
    assert time.monotonic() - began < lock_module.LEASE_SECONDS


def test_a_ticket_left_on_another_machine_holds_up_as_long_as_its_lease(gated_registry, monkeypatch) -> None:
    monkeypatch.setattr(lock_module, "LEASE_SECONDS", 2.0)
    with left_behind(gated_registry, place="elsewhere"):
        gated_registry.promote(3)
    assert gated_registry.champion().version == 3


def test_who_holds_the_lock_is_named_to_who_waits_in_vain(gated_registry, monkeypatch) -> None:
    monkeypatch.setattr(lock_module, "PATIENCE_SECONDS", 0.5)
    in_vain = pytest.raises(RegistryError, match="is being changed by user:ann@elsewhere: try again")
    with left_behind(gated_registry, by="user:ann@elsewhere"), in_vain:
        gated_registry.promote(3)
    assert gated_registry.champion().version == 1
    assert len(gated_registry._client.search_model_versions(f"name='{gated_registry.name}.lock'")) == 1, (
        "ours is given back"
    )
