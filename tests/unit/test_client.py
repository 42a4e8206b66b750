import httpx
import pytest

from captionloop.client import CaptionClient, ServiceError

MADE = {
    "caption_id": "kq3V0cYJmS0xw9ZyqkQJZw", "caption": "a dog", "confidence": 0.7, "words": [],
    "alternatives": [], "model": {"name": "captioner", "version": "3"}, "image": {"width": 4, "height": 3},
    "created_at": "2026-11-22T09:31:07.120Z",
}  # fmt: skip
PROBLEM = {
    "type": "urn:captionloop:problem:image-unreadable", "title": "The image cannot be read", "status": 422,
    "detail": "It is damaged.", "instance": "/v1/captions", "request_id": "abc",
}  # fmt: skip


def client(*answers: httpx.Response, **options) -> tuple[CaptionClient, list[httpx.Request]]:
    waiting, seen = list(answers), []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return waiting.pop(0)

    return CaptionClient("http://service", transport=httpx.MockTransport(respond), **options), seen


def test_a_photo_becomes_a_caption() -> None:
    service, seen = client(httpx.Response(201, json=MADE), key="clk_x")
    assert service.caption(b"bytes").caption == "a dog"
    assert seen[0].headers["authorization"] == "Bearer clk_x" and seen[0].content == b"bytes"


def test_told_to_come_again_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    service, seen = client(
        httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503), httpx.Response(201, json=MADE)
    )
    assert service.caption(b"bytes").caption == "a dog"
    assert waits == [7.0, 1.0] and len(seen) == 3


def test_a_photo_that_is_sent_again_goes_by_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    under_way = httpx.Response(409, headers={"Retry-After": "1"})
    service, seen = client(under_way, httpx.Response(201, json=MADE), httpx.Response(201, json=MADE))
    assert service.caption(b"bytes", idempotency_key="photo-1").caption == "a dog"
    service.caption(b"bytes")
    assert [each.headers.get("idempotency-key") for each in seen] == ["photo-1", "photo-1", None]


def test_a_problem_is_one_line_that_says_what_and_which_request() -> None:
    service, _ = client(httpx.Response(422, json=PROBLEM))
    with pytest.raises(ServiceError, match=r"It is damaged.*abc") as raised:
        service.caption(b"bytes")
    assert raised.value.problem is not None and raised.value.problem.status == 422


def test_something_else_that_answers_is_recognised() -> None:
    service, _ = client(httpx.Response(200, text="<html>a router</html>"))
    with pytest.raises(ServiceError, match="check its address"):
        service.model()


def test_nobody_there_is_one_line() -> None:
    with (
        CaptionClient("http://127.0.0.1:1") as service,
        pytest.raises(ServiceError, match="no captioning service"),
    ):
        service.statistics()


def test_a_full_service_is_not_asked_thrice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    seen = []

    def full(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503, headers={"Retry-After": "1"})

    service = CaptionClient("http://service", transport=httpx.MockTransport(full))
    for _ in range(200):
        with pytest.raises(ServiceError):
            service.caption(b"bytes")
    assert 200 < len(seen) <= 225


@pytest.mark.parametrize("retry_after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_told_to_come_much_later_it_does_not_come_sooner(
    retry_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    service, seen = client(httpx.Response(503, headers={"Retry-After": retry_after}))
    with pytest.raises(ServiceError):
        service.caption(b"bytes")
    assert waits == [] and len(seen) == 1


@pytest.mark.parametrize("retry_after", ["soon", "", "Wed, 21 Oct 2015 07:28:00 GMT", "-5"])
def test_a_time_that_cannot_be_read_or_is_past_is_short(
    retry_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    service, _ = client(
        httpx.Response(503, headers={"Retry-After": retry_after}), httpx.Response(201, json=MADE)
    )
    assert service.caption(b"bytes").caption == "a dog"
    assert all(0 <= seconds <= 1 for seconds in waits)
