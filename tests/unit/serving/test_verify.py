"""What `captionloop verify` asks, asked of a real gateway."""

import importlib
from unittest.mock import MagicMock

import httpx
import pytest
from click.testing import CliRunner
from serving_fakes import PHOTO, FakeModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from captionloop.client import CaptionClient
from captionloop.commands import verification
from captionloop.commands.canaries import Canary, Limits, NotVerifiedError, VerificationError
from captionloop.commands.verification import Clock, Fleet, Patience, verify_version
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_tables import Caption
from captionloop.serving.schemas import CaptionResult, PreparedImage, WordBody

CANARIES = [Canary("a", PHOTO, "a red square")]


@pytest.fixture
def service(client) -> CaptionClient:
    def forward(request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = client.request(request.method, str(request.url), content=request.content, headers=headers)
        return httpx.Response(answer.status_code, content=answer.content)

    # With a key, as an operator has one: without it the statistics may be a minute old.
    _, key = ApiKeyStore(client.app.state.services.store).create("operator", ("caption",))
    return CaptionClient("http://testserver", key=key, transport=httpx.MockTransport(forward), attempts=1)


@pytest.fixture
def clock(client) -> Clock:
    """Time passes when somebody waits; then the gateway asks its model server, as it does by itself."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds
        client.portal.call(client.app.state.services.model.poll)

    return Clock(lambda: passed[0], sleep)


def wait(service: CaptionClient, name: str, version: str, clock: Clock) -> None:
    verification.wait_for_all(Fleet(service, name, clock), version, 0, clock)


def test_a_version_that_is_served_is_found_at_once(service, clock) -> None:
    wait(service, "captioner", "1", clock)


def test_that_a_version_does_not_come_is_no_fault_of_it(service, clock) -> None:
    message = "version 7 is not served everywhere .* 0 of 1 model servers serve it, others serve version 1"
    with pytest.raises(NotVerifiedError, match=message):
        wait(service, "captioner", "7", clock)
    with pytest.raises(NotVerifiedError, match="the service answers: captioner version 1"):
        wait(service, "tagger", "1", clock)  # the same number of another registered model


def test_a_version_that_passes_was_counted_by_its_own_requests(service, clock) -> None:
    found = verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 12), clock=clock)
    assert (found.asked, found.failed, found.counted) == (5, 0, True)
    assert (found.servers, found.as_at_evaluation, found.usual_confidence) == (1, 1, None)


@pytest.fixture(autouse=True)
def various(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second photo gets another caption: the same for all would be a complaint."""
    caption_of = model.caption

    async def caption(image: PreparedImage) -> CaptionResult:
        result = await caption_of(image)
        return result.model_copy(update={"caption": "a blue circle"}) if len(model.seen) % 2 else result

    monkeypatch.setattr(model, "caption", caption)


def test_canaries_are_no_use_by_people(service, client, clock) -> None:
    before = client.get("/metrics").text
    verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 12), clock=clock)
    with Session(client.app.state.services.store.reader) as session:
        assert session.scalar(select(func.count()).select_from(Caption)) == 0
    assert service.statistics().totals.captions == 0
    used = [line for line in client.get("/metrics").text.splitlines() if line not in before]
    assert not [
        line for line in used if line.startswith(("captionloop_captions_total", "captionloop_caption_"))
    ]


def test_nothing_counted_is_no_pass(service, clock) -> None:
    with pytest.raises(NotVerifiedError, match="no request of version 1 was counted"):
        verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 0), lambda: (0, 0), clock=clock)


def test_what_prometheus_counted_decides_where_it_is_asked(service, clock) -> None:
    counted = iter([(1000, 7), (1990, 17)])
    with pytest.raises(VerificationError, match="10 of 1000 requests failed since it took over"):
        verify_version(
            service, "captioner", "1", CANARIES * 2, Patience(0, 0), lambda: next(counted),
            Limits(failed_requests=0.005), clock,
        )  # fmt: skip


def test_counters_that_were_not_heard_of_are_not_taken_for_requests(service, model, clock) -> None:
    model.counts = (0, 0)
    found = verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 0), clock=clock)
    assert (found.asked, found.failed, found.counted) == (2, 0, False)


def test_failures_of_people_count_from_three_on(service, model, clock, monkeypatch) -> None:
    model.counts = (10, 0)
    real = verification.repeat_canaries

    def meanwhile(*arguments: object) -> object:
        model.counts = failing
        return real(*arguments)

    monkeypatch.setattr(verification, "repeat_canaries", meanwhile)
    failing = (60, 2)
    verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 0), clock=clock)
    model.counts, failing = (10, 0), (60, 3)
    client_sees = "3 of 53 requests failed since it took over"
    clock.sleep(1)
    with pytest.raises(VerificationError, match=client_sees):
        verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 0), clock=clock)


def test_a_gateway_that_does_not_tell_of_model_servers_is_believed_by_the_canaries(
    service, model, client, clock
) -> None:
    model.server = ""
    client.app.state.services.model.servers._servers.clear()
    found = verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 12), clock=clock)
    assert (found.asked, found.failed, found.counted) == (5, 0, False)


def test_a_service_that_is_away_is_no_fault_of_the_version(service, model, client, clock) -> None:
    model.failure = OSError("gone")
    with pytest.raises(NotVerifiedError, match="photo a got no answer of version 1"):
        verify_version(service, "captioner", "1", CANARIES * 2, Patience(4, 0), clock=clock)


def test_another_version_taking_over_while_watching_is_no_fault_of_this_one(
    service, model: FakeModel, client, clock
) -> None:
    fleet = Fleet(service, "captioner", clock)
    model.version = "2"
    client.portal.call(client.app.state.services.model.poll)
    with pytest.raises(
        NotVerifiedError, match=r"version 1 is not served any more: .* others serve version 2"
    ):
        verification.repeat_canaries(service, fleet, CANARIES, "1", Patience(0, 6), clock)
    assert len(verification.repeat_canaries(service, fleet, CANARIES, "2", Patience(0, 6), clock)) == 2


def test_a_photo_that_the_version_cannot_caption_is_its_fault(service, model, clock, monkeypatch) -> None:
    async def caption(image):
        return (await FakeModel.caption(model, image)).model_copy(update={"caption": None})

    monkeypatch.setattr(model, "caption", caption)
    with pytest.raises(VerificationError, match="does not pass: 2 of 2 photos could not be captioned"):
        verify_version(service, "captioner", "1", CANARIES * 2, Patience(0, 0), clock=clock)


def test_a_version_that_a_model_server_cannot_load_is_at_fault(service, model, client, clock) -> None:
    model.refused = "2"
    client.portal.call(client.app.state.services.model.poll)
    with pytest.raises(VerificationError, match="1 of 1 model servers cannot load it"):
        wait(service, "captioner", "2", clock)


def test_a_version_is_not_held_unsure_for_what_its_confidence_means(service, clock, monkeypatch) -> None:
    words = [WordBody(text=text, confidence=0.8, attention=None) for text in ("a", "square")]
    answer = service.look(PHOTO).model_copy(update={"confidence": 0.2, "words": words})
    monkeypatch.setattr(service, "look", lambda *_, **__: answer)
    asked = verification.caption_canary(
        service, Fleet(service, "captioner", clock), CANARIES[0], "1", 0, clock
    )
    assert asked.confidence == pytest.approx(0.8)


def test_confidence_is_compared_with_the_version_before_only_if_that_served_enough(service) -> None:
    for _ in range(verification.FEWEST_TO_COMPARE - 1):
        service.caption(PHOTO)
    assert verification.usual_confidence(service, "2") is None
    service.caption(PHOTO)
    assert verification.usual_confidence(service, "2") == 0.5
    assert verification.usual_confidence(service, "1") is None


def test_a_caption_by_a_version_that_nobody_serves_is_refused_at_once(client, model) -> None:
    answer = client.post(
        "/v1/captions?version=7&keep=false", content=PHOTO, headers={"Content-Type": "image/png"}
    )
    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "5")
    assert "No model server serves version 7" in answer.json()["detail"]
    assert not model.seen


def test_why_nothing_could_be_said_is_the_last_and_only_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what a run of Airflow gives as the reason in its note."""
    command = importlib.import_module("captionloop.commands.verify")

    def away(*_: object) -> None:
        raise NotVerifiedError("version 4 is not served everywhere after 120 s: the service is away")

    monkeypatch.setattr(command, "verify_version", away)
    for name in ("project_folder", "open_registry", "choose_canaries", "with_expected_captions", "note"):
        monkeypatch.setattr(command, name, MagicMock())
    result = CliRunner().invoke(command.verify, ["--url", "http://127.0.0.1:9", "--version", "4"])
    assert result.exit_code == command.NOT_VERIFIED
    (line,) = result.stderr.splitlines()
    assert line.startswith("captionloop: Version 4 was not verified, which says nothing against it: ")
    assert "is not served everywhere after 120 s" in line
