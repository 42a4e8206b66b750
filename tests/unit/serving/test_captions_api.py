import base64
import hashlib
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from PIL import Image
from prometheus_client import REGISTRY
from serving_fakes import PHOTO, SIZE, FakeModel, png
from starlette.testclient import TestClient

from captionloop.images import load_square
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.serving.schemas import CaptionBody

pytestmark = pytest.mark.integration

URL = "/v1/captions"
RATED = ("captionloop_ratings_total", "captionloop_corrections_total")
Gateway = Callable[..., TestClient]


def caption(client: TestClient, photo: bytes = PHOTO, **kwargs):
    return client.post(URL, files={"image": ("a.png", photo, "image/png")}, **kwargs)


def key(client: TestClient, *scopes: str) -> dict[str, str]:
    _, secret = ApiKeyStore(client.app.state.services.store).create("test", scopes)
    return {"Authorization": f"Bearer {secret}"}


def test_three_ways_in_give_the_same_caption(client: TestClient, model: FakeModel) -> None:
    answers = [
        caption(client),
        client.post(URL, content=PHOTO, headers={"Content-Type": "image/png"}),
        client.post(URL, content=PHOTO, headers={"Content-Type": "application/octet-stream"}),
        client.post(URL, json={"image": base64.b64encode(PHOTO).decode()}),
        client.post(URL, json={"image": "data:image/png;base64," + base64.b64encode(PHOTO).decode()}),
    ]
    assert [answer.status_code for answer in answers] == [201] * 5
    assert {answer.json()["caption"] for answer in answers} == {"a red square"}
    assert len({image.pixels for image in model.seen}) == 1
    assert model.seen[0].size == SIZE


def test_the_answer_is_what_the_api_page_says(client: TestClient) -> None:
    answer = caption(client)
    body = CaptionBody.model_validate(answer.json())
    assert [word.text for word in body.words] == ["a", "red", "square"]
    assert (body.image.width, body.image.height) == (40, 30)
    assert answer.headers["location"] == f"{URL}/{body.caption_id}"
    assert answer.headers["cache-control"] == "no-store"


def test_a_caption_can_be_read_back_with_ones_rating(client: TestClient) -> None:
    made = caption(client).json()
    url = f"{URL}/{made['caption_id']}"
    assert client.get(url).json() == {**made, "rating": None}
    rating = client.put(f"{url}/rating", json={"stars": 4, "correction": " a  blue\nsquare "}).json()
    assert rating["correction"] == "a blue square"
    assert client.get(url).json()["rating"] == rating


@pytest.mark.parametrize("known", [(0.4375, True), (0.0, False), None])
def test_a_caption_says_how_familiar_its_photo_is_now_and_later(
    client: TestClient, model: FakeModel, known: tuple[float, bool] | None
) -> None:
    model.familiarity = known
    count = lambda: REGISTRY.get_sample_value("captionloop_unfamiliar_captions_total", {"version": "1"}) or 0  # noqa: E731
    before = count()
    made = caption(client).json()
    assert (made["familiarity"], made["familiar"]) == (known or (None, None))
    assert client.get(f"{URL}/{made['caption_id']}").json() == {**made, "rating": None}
    unkept = caption(client, params={"keep": "false"}).json()
    assert (unkept["familiarity"], unkept["familiar"]) == (known or (None, None))
    assert count() - before == (2 if known == (0.0, False) else 0)


def test_the_description_says_what_familiarity_is(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("CaptionBody", "UnkeptCaption", "CaptionWithRating"):
        properties = schemas[name]["properties"]
        assert "validation photos" in properties["familiarity"]["description"]
        assert "unlike anything the model learnt from" in properties["familiar"]["description"]
        assert "a person would accept" in properties["confidence"]["description"]
        assert not {"familiarity", "familiar"} & set(schemas[name]["required"])


@pytest.mark.parametrize("language", ["fr", None])
def test_a_caption_says_its_language_now_and_later(
    gateway: Gateway, model: FakeModel, language: str | None
) -> None:
    model.language = language
    client = gateway()
    made = caption(client).json()
    assert made["language"] == language
    assert client.get(f"{URL}/{made['caption_id']}").json()["language"] == language
    assert client.get(URL).json()["captions"][0]["language"] == language
    assert caption(client, params={"keep": "false"}).json()["language"] == language
    assert client.get("/v1/model").json()["language"] == language
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("CaptionBody", "UnkeptCaption", "CaptionWithRating", "CaptionToRate", "ModelBody"):
        assert "ISO 639" in schemas[name]["properties"]["language"]["description"]
        assert "language" not in schemas[name]["required"], "answers of older services stay valid"


def test_rating_twice_is_rating_once(client: TestClient) -> None:
    url = f"{URL}/{caption(client).json()['caption_id']}/rating"
    first = client.put(url, json={"stars": 4})
    assert client.put(url, json={"stars": 4}).json() == first.json()
    assert client.get("/v1/statistics").json()["totals"]["ratings"] == 1


def test_only_the_owner_reads_and_erases_but_others_may_rate(client: TestClient) -> None:
    url = f"{URL}/{caption(client).json()['caption_id']}"
    mine = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    client.cookies.clear()
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404
    assert client.put(f"{url}/rating", json={"stars": 1}).status_code == 200
    client.cookies.clear()
    assert client.get(url, headers=mine).status_code == 200


def test_erasing_erases_the_photo(client: TestClient, tmp_path) -> None:
    url = f"{URL}/{caption(client).json()['caption_id']}"
    assert len([path for path in (tmp_path / "state/photos").rglob("*") if path.is_file()]) == 1
    assert client.delete(url).status_code == 204
    assert client.delete(url).status_code == 404
    assert client.put(f"{url}/rating", json={"stars": 1}).status_code == 404
    assert [path for path in (tmp_path / "state/photos").rglob("*") if path.is_file()] == []


def test_a_photo_is_kept_without_its_metadata_and_captioned_as_it_is_kept(
    client: TestClient, model: FakeModel, tmp_path
) -> None:
    secret, block = "Jane Doe, 52.52 N 13.40 E", Image.Exif()
    block[0x013B], block[0x0112] = secret, 6
    picture = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    sent = [io.BytesIO() for _ in range(2)]
    picture.save(sent[0], "JPEG", exif=block)
    block[0x013B] = "somebody else"
    picture.save(sent[1], "JPEG", exif=block)
    answers = [caption(client, each.getvalue()) for each in sent]
    assert [answer.json()["image"] for answer in answers] == [{"width": 40, "height": 60}] * 2
    (kept,) = [path for path in (tmp_path / "state/photos").rglob("*") if path.is_file()]
    data = kept.read_bytes()
    assert hashlib.sha256(data).hexdigest() == kept.name
    assert b"Exif" not in data and secret.encode() not in data and secret.encode() in sent[0].getvalue()
    assert {image.pixels for image in model.seen} == {load_square(data, SIZE).tobytes()}


def test_an_administrator_reads_and_erases_all(client: TestClient) -> None:
    url = f"{URL}/{caption(client).json()['caption_id']}"
    admin = key(client, "admin")
    client.cookies.clear()
    assert client.get(url, headers=admin).status_code == 200
    assert client.delete(url, headers=admin).status_code == 204


def test_scopes_bound_what_a_key_may_do(client: TestClient) -> None:
    rater = key(client, "rate")
    refused = caption(client, headers=rater)
    assert refused.status_code == 403 and refused.json()["type"].endswith("scope-missing")
    made = caption(client, headers=key(client, "caption")).json()
    url = f"{URL}/{made['caption_id']}/rating"
    assert client.put(url, json={"stars": 3}, headers=rater).status_code == 200
    assert client.put(url, json={"stars": 3}, headers=key(client, "caption")).status_code == 403


@pytest.mark.parametrize("sent", ["clk_000000000000_" + "A" * 43, "nonsense", "clk__", "\u00e9"])
def test_unknown_keys_are_refused(client: TestClient, sent: str) -> None:
    answer = caption(client, headers={"Authorization": f"Bearer {sent}".encode()})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_is_refused(client: TestClient) -> None:
    ring = client.app.state.services.access._keys
    record, secret = ring.create("test", ["caption"])
    assert caption(client, headers={"X-API-Key": secret}).status_code == 201
    ring.revoke(record.key_id)
    assert caption(client, headers={"X-API-Key": secret}).status_code == 401


def test_a_rotated_key_keeps_its_captions(client: TestClient) -> None:
    ring = client.app.state.services.access._keys
    record, old = ring.create("test", ["caption", "rate"])
    url = f"{URL}/{caption(client, headers={'X-API-Key': old}).json()['caption_id']}"
    _, new = ring.rotate(record.key_id)
    assert client.get(url, headers={"X-API-Key": old}).status_code == 401
    assert client.get(url, headers={"X-API-Key": new}).status_code == 200
    listed = client.get(URL, headers={"X-API-Key": new}).json()["captions"]
    assert [each["caption_id"] for each in listed] == [url.rsplit("/", 1)[1]]
    assert client.delete(url, headers={"X-API-Key": new}).status_code == 204


def test_without_anonymous_access_a_key_is_needed(gateway: Gateway) -> None:
    client = gateway(anonymous=False)
    assert caption(client).json()["type"] == "urn:captionloop:problem:key-required"
    assert caption(client, headers=key(client, "caption")).status_code == 201


def test_a_limit_used_up_says_when_to_come_back(gateway: Gateway) -> None:
    client = gateway(anonymous_captions_per_minute=2)
    answers = [caption(client) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    refused = next(answer for answer in (caption(client) for _ in range(3)) if answer.status_code == 429)
    assert refused.headers["ratelimit-remaining"] == "0"  # at once, or later if a minute has ended
    assert int(refused.headers["retry-after"]) >= 1
    client.cookies.clear()
    assert caption(client).status_code == 429, "another cookie is not another caller"
    assert caption(client, headers=key(client, "caption")).status_code == 201


@pytest.mark.parametrize(
    ("rating", "field"),
    [
        ({"stars": 6}, "stars"),
        ({"stars": 0}, "stars"),
        ({"stars": 3.5}, "stars"),
        ({"stars": "5"}, "stars"),
        ({"stars": True}, "stars"),
        ({}, "stars"),
        ({"stars": 3, "correction": "x" * 10_000}, "correction"),
        ({"stars": 3, "correction": "a\u0000b"}, "correction"),
        ({"stars": 3, "comment": "x" * 2_001}, "comment"),
        ({"stars": 3, "rater": "somebody"}, "rater"),
    ],
)
def test_ratings_that_break_a_rule_are_refused_field_by_field(client: TestClient, rating, field: str) -> None:
    answer = client.put(f"{URL}/{caption(client).json()['caption_id']}/rating", json=rating)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert "xxxx" not in answer.text, "what was sent is not repeated"


def test_a_lone_surrogate_is_refused_and_not_a_crash(client: TestClient) -> None:
    url = f"{URL}/{caption(client).json()['caption_id']}/rating"
    body = b'{"stars": 3, "comment": "\\ud800"}'
    assert client.put(url, content=body, headers={"Content-Type": "application/json"}).status_code == 422


@pytest.mark.parametrize("caption_id", ["nope", "x" * 22, "%00", "' OR 1=1 --", "x" * 5000])
def test_unknown_captions_are_404(client: TestClient, caption_id: str) -> None:
    assert client.put(f"{URL}/{caption_id}/rating", json={"stars": 3}).status_code == 404


def test_the_model_away_is_503_with_retry_after(client: TestClient, model: FakeModel) -> None:
    model.failure = ConnectionError("gone")
    answer = caption(client)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["type"].endswith("model-not-ready")


def test_no_model_yet_is_503_and_not_ready(gateway: Gateway, model: FakeModel) -> None:
    model.ready = False
    client = gateway()
    assert caption(client).status_code == 503
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200


def test_full_is_503_with_retry_after(gateway: Gateway) -> None:
    client = gateway(upload_memory_bytes=10)
    answer = caption(client)
    assert answer.status_code == 503 and answer.json()["type"].endswith("overloaded")
    assert int(answer.headers["retry-after"]) >= 1


def test_photos_past_their_retention_are_swept(client: TestClient, tmp_path) -> None:
    caption(client)
    store = client.app.state.services.store
    erased = store.expire(unrated=timedelta(0), rated=timedelta(0)).result(10)
    assert len(erased) == 1


def test_the_database_away_is_503(client: TestClient) -> None:
    client.app.state.services.store.writer.close()
    engine = client.app.state.services.store._engine
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE captions RENAME TO elsewhere")
    answer = caption(client)
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("storage-unavailable")
    assert "elsewhere" not in answer.text and "no such table" not in answer.text


def test_a_tiny_photo_is_a_photo(client: TestClient) -> None:
    assert caption(client, png((1, 1))).json()["image"] == {"width": 1, "height": 1}


def test_what_is_refused_counts_before_its_body_is_looked_at(gateway: Gateway) -> None:
    client = gateway(anonymous_captions_per_minute=1)
    url = f"{URL}/kq3V0cYJmS0xw9ZyqkQJZw/rating"
    json_type = {"Content-Type": "application/json"}
    answers = [
        client.put(url, json={"stars": 9}),
        client.put(url, content=b"{", headers=json_type),
        client.put(url, json={"stars": 3}),
        client.get("/v1/statistics?days=0"),
    ]
    assert [answer.status_code for answer in answers] == [422, 400, 404, 422]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["9", "8", "7", "6"]
    assert [client.put(url, json={"stars": 9}).status_code for _ in range(7)] == [422] * 6 + [429]


def test_guessed_keys_stop_reaching_the_database_and_a_valid_one_still_does(client: TestClient) -> None:
    valid = key(client, "caption")
    assert caption(client, headers=valid).status_code == 201
    store, asked = client.app.state.services.access._keys, []
    find = store._find
    store._find = lambda key_id: asked.append(key_id) or find(key_id)
    guesses = [{"X-API-Key": f"clk_{number:012x}_{'a' * 43}"} for number in range(100)]
    statuses = [client.get("/v1/model", headers=guess).status_code for guess in guesses]
    assert statuses == [401] * 60 + [429] * 40
    assert len(asked) == 60
    assert caption(client, headers=valid).status_code == 201, "at the same address"


def test_a_rating_counts_once_however_often_it_is_sent(client: TestClient) -> None:
    def counted() -> tuple[float, float]:
        sums = [0.0, 0.0]
        for family in REGISTRY.collect():
            for sample in family.samples:
                if sample.name in RATED:
                    sums[RATED.index(sample.name)] += sample.value
        return sums[0], sums[1]

    url = f"{URL}/{caption(client).json()['caption_id']}/rating"
    before = counted()
    for turn in range(40):
        rating = {"stars": 1 + turn % 5, "correction": "a red square" if turn > 30 else None}
        assert client.put(url, json=rating).status_code == 200
    assert counted() == (before[0] + 1, before[1] + 1)


def test_anonymous_statistics_are_remembered_and_those_with_a_key_are_not(client: TestClient) -> None:
    def captions(**headers: str) -> int:
        return client.get("/v1/statistics", headers=headers).json()["totals"]["captions"]

    with_key = key(client, "caption")
    assert captions() == captions(**with_key) == 0
    caption(client)
    assert (captions(), captions(**with_key)) == (0, 1)


def test_a_list_where_the_photo_should_be_is_refused_unparsed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionloop.serving.gateway.uploads.json", None)
    for body in (b'{"image":[' + b"[]," * 9_000 + b"[]]}", b'{"image":"",' + b'"a":1,' * 9_000 + b'"b":1}'):
        answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422 and answer.json()["type"].endswith("image-missing")


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/v1/model", "/openapi.json"])
def test_what_can_be_got_can_be_asked_for_by_head(client: TestClient, path: str) -> None:
    got, asked = client.get(path), client.head(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]
