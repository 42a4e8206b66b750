"""What `captionloop verify` asks, asked of a real gateway."""

import httpx
import pytest
from serving_fakes import PHOTO, FakeModel

from captionloop.client import CaptionClient
from captionloop.commands import verify
from captionloop.commands.verify import Canary, VerificationError, requests_by_status
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.serving.schemas import WordBody


@pytest.fixture
def service(client) -> CaptionClient:
    def forward(request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = client.request(request.method, str(request.url), content=request.content, headers=headers)
        return httpx.Response(answer.status_code, content=answer.content)

    # With a key, as an operator has one: without it the statistics may be a minute old.
    _, key = ApiKeyStore(client.app.state.parts.store).create("operator", ("caption",))
    return CaptionClient("http://testserver", key=key, transport=httpx.MockTransport(forward), attempts=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(verify, "BETWEEN_CANARIES_SECONDS", 0.01)


def test_a_version_that_is_served_is_found_at_once(service) -> None:
    verify.wait_for(service, "captioner", "1", 0)


def test_a_version_that_does_not_come_is_named_with_what_answers(service) -> None:
    with pytest.raises(VerificationError, match=r"captioner version 7 is not .*answers: captioner version 1"):
        verify.wait_for(service, "captioner", "7", 0)
    with pytest.raises(VerificationError, match="tagger version 1 is not served after 0 s"):
        verify.wait_for(service, "tagger", "1", 0)  # the same number of another registered model


def test_a_canary_is_answered_by_the_served_version(service) -> None:
    answer = verify.ask(service, Canary("a", PHOTO))
    assert (answer.caption, answer.version) == ("a red square", "1")
    assert requests_by_status(service.metrics())["201"] >= 1


def test_another_version_taking_over_while_watching_is_noticed(service, model: FakeModel) -> None:
    model.version = "2"
    assert verify.watch(service, [Canary("a", PHOTO)], "1", 0.05) == ["version 2 answers now"]
    assert verify.watch(service, [Canary("a", PHOTO)], "2", 0.05) == []


def test_a_version_is_not_held_unsure_for_what_its_confidence_means(service, monkeypatch) -> None:
    words = [WordBody(text=text, confidence=0.8, attention=None) for text in ("a", "square")]
    answer = service.look(PHOTO).model_copy(update={"confidence": 0.2, "words": words})
    monkeypatch.setattr(service, "caption", lambda _: answer)
    assert verify.ask(service, Canary("a", PHOTO)).confidence == pytest.approx(0.8)


def test_confidence_is_compared_with_the_version_before_only_if_that_served_enough(service) -> None:
    for _ in range(verify.FEWEST_TO_COMPARE):
        verify.ask(service, Canary("a", PHOTO))
    assert verify.usual_confidence(service, "2") == 0.5
    assert verify.usual_confidence(service, "1") is None


def test_a_version_that_served_too_little_is_not_compared_with(service) -> None:
    for _ in range(verify.FEWEST_TO_COMPARE - 1):
        verify.ask(service, Canary("a", PHOTO))
    assert verify.usual_confidence(service, "2") is None
