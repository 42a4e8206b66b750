"""Which version a gateway asks for whom, while a canary runs."""

from collections import Counter

from photos_for_tests import encoded, noise
from serving_fakes import PHOTO, SIZE, FakeModel
from starlette.testclient import TestClient

from captionloop.images import load_square
from captionloop.preprocessing import Preprocessing
from captionloop.registry.trials import is_chosen
from captionloop.serving.schemas import (
    CaptionResult,
    ModelDescription,
    PreparedImage,
    TrialBody,
    WordResult,
)

FAVOURED = 48


class WithCanary(FakeModel):
    """A model server that tries version 2 beside version 1."""

    def __init__(self) -> None:
        super().__init__()
        self.trial = TrialBody(role="canary", version="2", share=0.5, ready=True, input_size=FAVOURED)
        self.is_there = True

    async def caption(self, image: PreparedImage) -> CaptionResult:
        result = await super().caption(image)
        by_canary = self.is_there and "2" in {image.preferred, image.version}
        return result.model_copy(
            update={"server": self.server, "model_version": "2" if by_canary else "1", "tried": by_canary}
        )

    async def describe(self) -> ModelDescription:
        return (await super().describe()).model_copy(update={"trial": self.trial})


def asked(client: TestClient, times: int = 40) -> dict[str, set[str]]:
    """Which versions answered each person; everybody asks twice."""
    found: dict[str, set[str]] = {}
    for _ in range(times):
        client.cookies.clear()
        for _ in range(2):
            answer = client.post("/v1/captions", files={"image": PHOTO})
            assert answer.status_code == 201, answer.text
            person = client.cookies["captionloop_rater"]
            found.setdefault(person, set()).add(answer.json()["model"]["version"])
    return found


def rater(cookie: str) -> str:
    import hashlib

    return "person:" + hashlib.sha256(cookie.encode()).hexdigest()[:32]


def test_the_same_people_are_answered_by_the_canary_each_time(gateway) -> None:
    model = WithCanary()
    client = _before(gateway, model)
    found = asked(client)
    assert {len(versions) for versions in found.values()} == {1}
    for cookie, versions in found.items():
        chosen = is_chosen(rater(cookie), "captioner", "2", 0.5)
        assert versions == ({"2"} if chosen else {"1"})
    assert set.union(*found.values()) == {"1", "2"}
    sizes = Counter((image.preferred, image.size) for image in model.seen)
    assert set(sizes) == {("", SIZE), ("2", FAVOURED)}, "each photo is prepared for who shall caption it"
    servers = client.get("/v1/model").json()["servers"]
    assert [(each["server"], each["version"], each["trial"]["version"]) for each in servers] == [
        ("a1", "1", "2")
    ]


def test_a_canary_that_is_gone_fails_nobody_and_the_answer_says_who_made_it(gateway) -> None:
    model = WithCanary()
    model.is_there = False
    found = asked(_before(gateway, model), 10)
    assert set.union(*found.values()) == {"1"}


def test_a_shadow_changes_no_answer_and_a_version_asked_for_is_not_exchanged(gateway) -> None:
    model = WithCanary()
    model.trial = TrialBody(role="shadow", version="2", share=1, ready=True)
    client = _before(gateway, model)
    assert set.union(*asked(client, 5).values()) == {"1"}
    assert (
        client.post("/v1/captions?version=2&keep=false", files={"image": PHOTO}).json()["model"]["version"]
        == "2"
    )
    assert client.post("/v1/captions?version=3", files={"image": PHOTO}).status_code == 409
    assert {image.preferred for image in model.seen} == {""}


def _before(gateway, model: WithCanary) -> TestClient:
    """A gateway before this model server."""
    client = gateway(anonymous_captions_per_minute=10_000)
    monitor = client.app.state.services.model
    monitor._model = model
    for _ in range(200):
        if monitor.latest.trial is not None:
            return client
        client.get("/livez")
        client.portal.call(monitor.poll)
    raise AssertionError("the gateway did not see the trial")


def test_a_photo_is_made_ready_as_the_model_that_answers_is_fed(gateway) -> None:
    fed = Preprocessing(crop="center")

    class Fed(FakeModel):
        async def describe(self) -> ModelDescription:
            return (await super().describe()).model_copy(
                update={"preprocessing": fed.model_dump(exclude_defaults=True)}
            )

        async def caption(self, image: PreparedImage) -> CaptionResult:
            word = WordResult(text="a", confidence=0.5, attention=[[0.25, 0.25], [0.25, 0.25]])
            return (await super().caption(image)).model_copy(update={"words": [word]})

    model = Fed()
    client = gateway()
    monitor = client.app.state.services.model
    monitor._model = model
    while not monitor.latest.preprocessing:
        client.portal.call(monitor.poll)
    wide = encoded(noise(96, 48), "PNG")
    words = client.post("/v1/captions", files={"image": ("photo.png", wide, "image/png")}).json()["words"]
    assert model.seen[-1].pixels == load_square(wide, SIZE, by=fed).tobytes()
    assert words[0]["attention"] == [[0, 0.25, 0.25, 0], [0, 0.25, 0.25, 0]]
