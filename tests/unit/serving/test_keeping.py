"""Photos that are not to be kept: captioned, and nothing is left of them."""

import asyncio
import base64
import contextlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from serving_fakes import PHOTO, FakeModel, png
from sqlalchemy import func, select
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Message

from captionloop.client import CaptionClient, ServiceError
from captionloop.commands import verification
from captionloop.commands.canaries import Canary
from captionloop.ratings.rating_tables import Caption, Photo
from captionloop.serving.schemas import UnkeptCaption

pytestmark = pytest.mark.integration

URL = "/v1/captions"
FORM = {"image": ("a.png", PHOTO, "image/png")}
TEXT = base64.b64encode(PHOTO).decode()
Gateway = Callable[..., TestClient]


def kept(client: TestClient, state: Path) -> tuple[int, int, int]:
    """Photos in the archive, and rows of photos and captions."""
    files = [path for path in (state / "photos").rglob("*") if path.is_file()]
    with client.app.state.services.store.reader.connect() as connection:
        rows = [connection.scalar(select(func.count()).select_from(table)) for table in (Photo, Caption)]
    return len(files), rows[0], rows[1]


def bodies(value: str) -> list[dict]:
    """Every way to say whether a photo may be kept."""
    return [
        {"files": FORM, "data": {"keep": value}},
        {"json": {"image": TEXT, "keep": value == "true"}},
        {"content": PHOTO, "headers": {"Content-Type": "image/png"}, "params": {"keep": value}},
        {"files": FORM, "params": {"keep": value}},
    ]


@pytest.mark.parametrize("way", range(4))
def test_what_is_not_to_be_kept_is_captioned_and_gone(client: TestClient, tmp_path: Path, way: int) -> None:
    answer = client.post(URL, **bodies("false")[way])
    assert answer.status_code == 200 and "location" not in answer.headers
    assert UnkeptCaption.model_validate(answer.json()).caption == "a red square"
    assert "caption_id" not in answer.json() and answer.json()["kept"] is False
    assert kept(client, tmp_path / "state") == (0, 0, 0)
    answer = client.post(URL, **bodies("true")[way])
    assert answer.status_code == 201 and answer.json()["kept"] is True
    assert kept(client, tmp_path / "state") == (1, 1, 1)


def test_a_photo_that_is_not_kept_needs_no_storage(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "state/photos").parent.mkdir(exist_ok=True)
    (tmp_path / "state/photos").write_text("no folder")
    assert client.post(URL, files=FORM).status_code == 503
    assert client.post(URL, files=FORM, data={"keep": "false"}).status_code == 200


@pytest.mark.parametrize("said", [["maybe"], [""], ["true", "no way"]])
def test_a_wish_that_is_not_understood_is_refused(
    client: TestClient, tmp_path: Path, said: list[str]
) -> None:
    refused = [
        client.post(URL, files=FORM, data={"keep": said}),
        client.post(URL, json={"image": TEXT, "keep": said[-1]}),
        client.post(URL, files=FORM, params={"keep": said[-1]}),
    ]
    assert [answer.status_code for answer in refused] == [422] * 3
    assert kept(client, tmp_path / "state") == (0, 0, 0)


def test_of_two_wishes_the_more_careful_one_counts(client: TestClient) -> None:
    both = {"files": FORM, "data": {"keep": ["true", "false"]}}
    assert client.post(URL, **both).status_code == 200
    assert client.post(URL, files=FORM, data={"keep": "true"}, params={"keep": "false"}).status_code == 200


def test_a_service_that_keeps_nothing_keeps_nothing_and_says_so(gateway: Gateway, tmp_path: Path) -> None:
    client = gateway(keep=False, retention_unrated_days=7)
    for body in bodies("true"):
        assert client.post(URL, **body).status_code == 200
    assert kept(client, tmp_path / "state") == (0, 0, 0)
    keeping = client.get("/v1/model").json()["keeping"]
    assert keeping == {"keep": False, "unrated_days": 7, "rated_days": 730}


def test_the_client_and_verify_get_along_with_a_service_that_keeps_nothing(
    gateway: Gateway, model: FakeModel
) -> None:
    inside = gateway(keep=False)

    def forward(request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = inside.request(request.method, str(request.url), content=request.content, headers=headers)
        return httpx.Response(answer.status_code, content=answer.content)

    client = CaptionClient("http://testserver", transport=httpx.MockTransport(forward))
    assert client.look(PHOTO).caption == "a red square"
    with pytest.raises(ServiceError, match="keeps nothing"):
        client.caption(PHOTO)
    clock = verification.Clock()
    fleet = verification.Fleet(client, "captioner", clock)
    asked = verification.caption_canary(client, fleet, Canary("a", PHOTO), "1", 0, clock)
    assert asked.caption == "a red square"


def test_the_description_tells_of_both_answers(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    post = described["paths"][URL]["post"]
    assert {"200", "201"} <= set(post["responses"])
    assert [parameter["name"] for parameter in post["parameters"]] == [
        "keep",
        "share",
        "version",
        "Idempotency-Key",
    ]
    content = post["requestBody"]["content"]
    for kind in ("multipart/form-data", "application/json"):
        assert content[kind]["schema"]["properties"]["keep"]["type"] == "boolean"
    assert "caption_id" in described["components"]["schemas"]["CaptionBody"]["required"]


def test_what_somebody_gave_up_on_while_it_was_stored_is_not_kept(client: TestClient, tmp_path: Path) -> None:
    async def story() -> tuple[list[Message], int]:
        services, gone, sent = client.app.state.services, asyncio.Event(), []
        loop, write, written = asyncio.get_running_loop(), services.archive.write, []

        def hang_up(sha256: str, data: bytes) -> None:
            write(sha256, data)
            written.append(sha256)
            loop.call_soon_threadsafe(gone.set)

        services.archive.write = hang_up
        messages = [{"type": "http.request", "body": PHOTO, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"image/png"), (b"content-length", str(len(PHOTO)).encode())]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": URL,
            "raw_path": URL.encode(),
        }
        more = {"headers": headers, "query_string": b"", "client": ("127.0.0.1", 1), "scheme": "http"}
        with contextlib.suppress(ClientDisconnect):
            await client.app({**scope, **more, "server": ("testserver", 80), "root_path": ""}, receive, send)
        return sent, len(written)

    sent, written = client.portal.call(story)
    assert written == 1
    assert not [message for message in sent if message.get("status") == 201]
    assert kept(client, tmp_path / "state") == (0, 0, 0)


def test_a_rating_can_be_taken_back_by_whoever_gave_it(client: TestClient) -> None:
    url = f"{URL}/{client.post(URL, files=FORM).json()['caption_id']}"
    assert client.delete(f"{url}/rating").status_code == 404
    client.put(f"{url}/rating", json={"stars": 4, "comment": "mine"})
    mine = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    client.cookies.clear()
    client.put(f"{url}/rating", json={"stars": 1})
    assert client.delete(f"{url}/rating").status_code == 204
    assert client.delete(f"{url}/rating").status_code == 404
    client.cookies.clear()
    read = client.get(url, headers=mine).json()
    assert read["rating"]["comment"] == "mine", "another's withdrawal leaves mine"
    assert client.delete(f"{url}/rating", headers=mine).status_code == 204
    client.cookies.clear()
    assert client.get(url, headers=mine).json()["rating"] is None
    assert client.get("/v1/statistics").json()["totals"]["ratings"] == 0


def test_ones_own_captions_are_listed_page_by_page_the_newest_first(client: TestClient) -> None:
    made = [client.post(URL, files=FORM).json() for _ in range(5)]
    client.put(f"{URL}/{made[0]['caption_id']}/rating", json={"stars": 4})
    pages = [client.get(URL, params={"limit": 2}).json()]
    while pages[-1]["next"]:
        pages.append(client.get(URL, params={"limit": 2, "before": pages[-1]["next"]}).json())
    listed = [caption for page in pages for caption in page["captions"]]
    assert [len(page["captions"]) for page in pages] == [2, 2, 1]
    assert [{**one, "rating": None} for one in listed] == [{**one, "rating": None} for one in made[::-1]]
    assert [one["rating"] and one["rating"]["stars"] for one in listed] == [None] * 4 + [4]
    client.cookies.clear()
    assert client.get(URL).json() == {"captions": [], "next": None}


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 51}, {"before": "yesterday"}, {"before": "x" * 99}]
    + [{"before": f"20261122T093107.120000-{name}"} for name in ("", "\0" * 22, "x" * 23)],
)
def test_a_page_that_cannot_be_is_refused(client: TestClient, query: dict) -> None:
    answer = client.get(URL, params=query)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] in query


def test_everything_of_a_person_is_erased_and_nothing_of_others(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionloop.ratings.rating_store.ERASED_PER_STEP", 2)
    theirs = client.post(URL, files={"image": ("b.png", png((9, 9)), "image/png")}).json()["caption_id"]
    them = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    client.cookies.clear()
    for _ in range(5):
        client.post(URL, files=FORM)
    client.put(f"{URL}/{theirs}/rating", json={"stars": 1})
    client.get(f"{URL}/{theirs}")
    assert kept(client, tmp_path / "state") == (2, 2, 6)
    assert client.delete("/v1/me").status_code == 204
    assert client.delete("/v1/me").status_code == 204, "there is nothing left, which is what was asked for"
    assert client.get(URL).json()["captions"] == []
    assert kept(client, tmp_path / "state") == (1, 1, 1)
    assert client.get("/v1/statistics").json()["totals"]["ratings"] == 0
    client.cookies.clear()
    assert client.get(f"{URL}/{theirs}", headers=them).status_code == 200
