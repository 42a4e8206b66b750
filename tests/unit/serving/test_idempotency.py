"""A photo that is sent twice under one `Idempotency-Key` is captioned once."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from serving_fakes import PHOTO, FakeModel, png
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from captionloop.ratings import idempotency_store
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_tables import Caption, RepeatableRequest
from captionloop.serving.gateway.retention import end_retention

pytestmark = pytest.mark.integration

URL = "/v1/captions"
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
Gateway = Callable[..., TestClient]


def send(client: TestClient, key: str | None = KEY, photo: bytes = PHOTO, url: str = URL, **headers: str):
    named = {} if key is None else {"Idempotency-Key": key}
    return client.post(url, content=photo, headers={"Content-Type": "image/png", **named, **headers})


def rows(client: TestClient, table=Caption) -> int:
    with Session(client.app.state.services.store.reader) as session:
        return session.scalar(select(func.count()).select_from(table))


def test_the_same_again_is_the_same_caption_and_no_second_row(client: TestClient, model: FakeModel) -> None:
    first, again, quoted = send(client), send(client), send(client, f'"{KEY}"')
    assert [answer.status_code for answer in (first, again, quoted)] == [201, 201, 201]
    assert first.json() == again.json() == quoted.json()
    assert first.headers["location"] == again.headers["location"]
    assert rows(client) == 1 and len(model.seen) == 1


def test_however_the_photo_is_packed(client: TestClient) -> None:
    first = send(client)
    in_a_form = client.post(URL, files={"image": ("x.png", PHOTO)}, headers={"Idempotency-Key": KEY})
    assert in_a_form.json()["caption_id"] == first.json()["caption_id"]


def test_another_photo_under_the_same_key_is_refused(client: TestClient) -> None:
    send(client)
    refused = send(client, photo=png((50, 50)))
    assert refused.status_code == 422 and send(client, "another", png((50, 50))).status_code == 201
    assert refused.json()["type"].endswith("idempotency-key-reused")
    assert rows(client) == 2


def test_another_caller_may_use_the_same_key(client: TestClient) -> None:
    ring = ApiKeyStore(client.app.state.services.store)
    callers = [ring.create(name, ["caption"])[1] for name in ("one", "two")]
    made = [send(client, **{"X-API-Key": caller}).json()["caption_id"] for caller in callers * 2]
    assert made[0] == made[2] != made[1] == made[3]


def test_without_a_key_the_same_again_is_another_caption(client: TestClient) -> None:
    assert send(client, None).json()["caption_id"] != send(client, None).json()["caption_id"]
    assert rows(client, RepeatableRequest) == 0


def test_while_the_first_is_under_way_the_second_is_told_to_wait(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, caption = threading.Event(), threading.Event(), model.caption

    async def slowly(image):
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return await caption(image)

    monkeypatch.setattr(model, "caption", slowly)
    token = "A" * 43  # both are one browser
    cookie = {"Cookie": f"captionloop_rater={token}"}
    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, client, **cookie)
        assert begun.wait(20)
        second = send(client, **cookie)
        go_on.set()
        made = first.result(20)
    assert second.status_code == 409 and second.headers["retry-after"] == "1"
    assert second.json()["type"].endswith("request-under-way")
    assert made.status_code == 201
    assert send(client, **cookie).json()["caption_id"] == made.json()["caption_id"]
    assert rows(client) == 1


def test_what_failed_can_be_tried_again(client: TestClient, model: FakeModel) -> None:
    model.failure = RuntimeError("away")
    assert send(client).status_code == 503
    model.failure = None
    assert send(client).status_code == 201
    assert send(client, "other", photo=b"no photo").status_code == 422
    assert send(client, "other").status_code == 201, "what was refused was not done"


def test_what_was_erased_since_does_not_come_back(client: TestClient) -> None:
    made = send(client).json()["caption_id"]
    assert client.delete(f"{URL}/{made}").status_code == 204
    late = send(client)
    assert late.status_code == 410 and late.json()["type"].endswith("caption-erased")
    assert rows(client) == 0
    assert send(client, "another").status_code == 201


def test_where_nothing_is_kept_no_key_is(gateway: Gateway) -> None:
    client = gateway()
    assert send(client, url=f"{URL}?keep=false").status_code == 200
    assert rows(client, RepeatableRequest) == 0
    assert send(client).status_code == 201, "the key is unused"


def test_after_a_day_it_is_forgotten(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = send(client).json()["caption_id"]
    monkeypatch.setattr(idempotency_store, "RETENTION", timedelta(seconds=-1))
    assert send(client).json()["caption_id"] != first
    assert rows(client, RepeatableRequest) == 1
    asyncio.run(end_retention(client.app.state.services))
    assert rows(client, RepeatableRequest) == 0


def test_neither_caller_key_nor_photo_stand_in_the_row(client: TestClient) -> None:
    import hashlib

    made = send(client)
    with Session(client.app.state.services.store.reader) as session:
        row = session.scalars(select(RepeatableRequest)).one()
        text = " ".join(str(value) for value in vars(row).values())
        owner = session.get(Caption, made.json()["caption_id"]).owner
    for secret in (KEY, owner, hashlib.sha256(PHOTO).hexdigest()):
        assert secret not in text


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", b"\xfc"])
def test_a_key_that_cannot_be_one_is_refused(client: TestClient, key) -> None:
    refused = send(client, key)
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "Idempotency-Key"


def test_the_description_tells_of_it(client: TestClient) -> None:
    post = client.get("/openapi.json").json()["paths"][URL]["post"]
    (header,) = (each for each in post["parameters"] if each["in"] == "header")
    assert header["name"] == "Idempotency-Key" and not header["required"]
    assert {"409", "410", "422"} <= set(post["responses"])
