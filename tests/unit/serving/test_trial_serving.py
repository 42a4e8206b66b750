"""A version that is tried on a model server: asked first or afterwards, and never relied upon."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from captionloop.errors import BundleError, RegistryError
from captionloop.registry.trials import Plan
from captionloop.serving.model_sources import ModelReference
from captionloop.serving.schemas import CaptionResult, PreparedImage
from captionloop.serving.trial_process import TrialGoneError
from captionloop.serving.trial_serving import SHADOWS_WAITING, TrialServing

BEGAN = datetime(2026, 11, 22, tzinfo=UTC)
ANSWERED = CaptionResult(model_name="captioner", model_version="4", caption="a dog")


class Asked:
    """A version that says the same of everything, until it ends."""

    input_size = 48
    preprocessing: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, version: str) -> None:
        self.version, self.runs, self.seen = version, True, 0
        self.says: str | None = "a dog"

    def caption(self, images: Sequence[PreparedImage]) -> list[CaptionResult]:
        if not self.runs:
            raise TrialGoneError("it has ended")
        self.seen += len(images)
        return [
            CaptionResult(model_name="captioner", model_version=self.version, caption=self.says)
            for _ in images
        ]

    def stop(self) -> None:
        self.runs = False


class Registry:
    """Says what shall be tried."""

    def __init__(self) -> None:
        self.what: tuple[ModelReference, Plan] | None = None
        self.away = False
        self.started: list[Asked] = []
        self.broken = False

    def want(self, version: str, role: str = "canary", share: float = 0.5, began: datetime = BEGAN) -> None:
        plan = Plan(role=role, share=share, champion=4, began=began, most=400, days=14)  # type: ignore[arg-type]
        self.what = ModelReference("captioner", version, version), plan

    def current_trial(self) -> tuple[ModelReference, Plan] | None:
        if self.away:
            raise RegistryError("the registry does not answer")
        return self.what

    def fetch(self, reference: ModelReference) -> Path:
        return Path(reference.version)

    def start(self, reference: ModelReference, folder: Path, plan: Plan) -> Asked:
        if self.broken:
            raise BundleError("damaged")
        self.started.append(Asked(reference.version))
        return self.started[-1]


def serving(registry: Registry, *, waits: bool = False, chance: float = 0.0) -> TrialServing:
    return TrialServing(
        registry, registry.start, max_batch=4, champion_waits=lambda: waits, chance=lambda: chance
    )


def image(**wanted: str) -> PreparedImage:
    return PreparedImage(size=32, pixels=b"", **wanted)


async def shadowed(tried: TrialServing, times: int = 1) -> None:
    for _ in range(times):
        tried.shadow(image(), ANSWERED)
    while tried._shadows:
        await asyncio.sleep(0.005)


def test_a_canary_answers_whoever_prefers_it_and_nobody_else() -> None:
    registry = Registry()
    registry.want("5")
    tried = serving(registry)
    tried.refresh()

    async def ask() -> None:
        result = await tried.caption(image(preferred="5"))
        assert result is not None and result.tried and result.model_version == "5"
        assert (await tried.caption(image(version="5"))) is not None
        for other in (image(), image(preferred="6"), image(version="4")):
            assert await tried.caption(other) is None
        await shadowed(tried)

    asyncio.run(ask())
    description = tried.describe()
    assert description is not None and (
        description.role,
        description.version,
        description.ready,
        description.input_size,
    ) == (
        "canary",
        "5",
        True,
        48,
    )
    assert (description.captioned, description.failed, description.dropped) == (2, 0, 0)


def test_what_the_canary_cannot_do_the_champion_does() -> None:
    registry = Registry()
    registry.want("5")
    tried = serving(registry)

    async def ask(**wanted: str) -> CaptionResult | None:
        return await tried.caption(image(**wanted))

    assert asyncio.run(ask(preferred="5")) is None, "not loaded yet"
    tried.refresh()
    registry.started[0].says = None
    assert asyncio.run(ask(preferred="5")) is None
    pinned = asyncio.run(ask(version="5"))
    assert pinned is not None and pinned.caption is None, "asked of it alone, it says that it cannot"
    registry.started[0].stop()
    assert asyncio.run(ask(preferred="5")) is None
    description = tried.describe()
    assert description is not None and not description.ready and description.failed == 3


def test_one_that_ended_is_started_again_and_one_that_cannot_be_loaded_not_at_once(monkeypatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("captionloop.serving.trial_serving.monotonic", lambda: clock[0])
    registry = Registry()
    registry.want("5")
    tried = serving(registry)
    tried.refresh()
    registry.started[0].runs = False
    clock[0] += 61
    registry.broken = True
    tried.refresh()
    tried.refresh()
    description = tried.describe()
    assert description is not None and not description.ready and description.reason == "damaged"
    registry.broken = False
    tried.refresh()
    assert len(registry.started) == 1, "not within a minute"
    clock[0] += 61
    tried.refresh()
    description = tried.describe()
    assert description is not None and description.ready and len(registry.started) == 2


def test_what_is_tried_changes_and_ends_as_the_registry_says() -> None:
    registry = Registry()
    registry.want("5", "shadow")
    tried = serving(registry)
    tried.refresh()
    registry.want("5", "canary")
    tried.refresh()
    assert [each.runs for each in registry.started] == [False, True], (
        "it is loaded anew, for a canary does not make way"
    )
    registry.away = True
    tried.refresh()
    assert registry.started[1].runs, "nobody says otherwise"
    registry.away, registry.what = False, None
    tried.refresh()
    assert tried.describe() is None and not registry.started[1].runs


@pytest.mark.parametrize(("says", "agreed"), [("a dog", 3), ("a cat", 0)])
def test_a_shadow_captions_copies_of_what_was_answered(says: str, agreed: int) -> None:
    registry = Registry()
    registry.want("5", "shadow", share=0.2)
    tried = serving(registry, chance=0.1)
    tried.refresh()
    registry.started[0].says = says
    asyncio.run(shadowed(tried, 3))
    description = tried.describe()
    assert description is not None and (description.captioned, description.agreed, description.dropped) == (
        3,
        agreed,
        0,
    )


def test_a_shadow_takes_its_share_and_nothing_while_the_champion_is_busy() -> None:
    registry = Registry()
    registry.want("5", "shadow", share=0.2)
    beyond, busy, idle = (serving(registry, chance=0.2), serving(registry, waits=True), serving(registry))
    for tried in (beyond, busy, idle):
        tried.refresh()
        asyncio.run(shadowed(tried, 100))
    counts = [
        (description.captioned, description.dropped)
        for description in (beyond.describe(), busy.describe(), idle.describe())
        if description
    ]
    assert counts == [(0, 0), (0, 100), (SHADOWS_WAITING, 100 - SHADOWS_WAITING)]


def test_what_nobody_was_answered_is_not_shadowed_nor_what_a_version_was_asked_for() -> None:
    registry = Registry()
    registry.want("5", "shadow", share=1)
    tried = serving(registry)
    tried.refresh()

    async def ask() -> None:
        tried.shadow(image(version="4"), ANSWERED)
        tried.shadow(image(), ANSWERED.model_copy(update={"caption": None}))
        await shadowed(tried, 0)

    asyncio.run(ask())
    assert registry.started[0].seen == 0
