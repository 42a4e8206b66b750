"""Other people's photos to rate: whose owners agreed, shown to whom they were offered, and to nobody else."""

import base64
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
from serving_fakes import PHOTO, png
from sqlalchemy import select
from starlette.testclient import TestClient

from captionloop.ratings.rating_tables import CORPUS, Offer, PhotoFacts, Rating, ServedCaption

pytestmark = pytest.mark.integration

URL, NEXT = "/v1/captions", "/v1/ratings/next"
TEXT = base64.b64encode(PHOTO).decode()
FORM = {"image": ("a.png", PHOTO, "image/png")}
Gateway = Callable[..., TestClient]


@pytest.fixture
def people(client: TestClient) -> Iterator[Callable[[], TestClient]]:
    """More people at the same gateway, each with a cookie of their own."""
    yield lambda: TestClient(client.app, raise_server_exceptions=False)


def shared(person: TestClient, photo: bytes = PHOTO) -> str:
    made = person.post(URL, files={"image": ("a.png", photo, "image/png")}, data={"share": "true"})
    assert made.status_code == 201 and made.json()["shared"] is True
    return str(made.json()["caption_id"])


def add_gold(client: TestClient, number: int, good: bool) -> str:
    services, photo = client.app.state.services, png((50 + number, 40))
    name, caption_id = sha256(photo).hexdigest(), f"gold{number:018d}"
    services.archive.write(name, photo)
    facts = PhotoFacts(name, "image/png", len(photo), 50, 40)
    services.store.record(
        ServedCaption(caption_id, CORPUS, facts, "a dog", 1.0, [], [], CORPUS, CORPUS, sent_sha256=name,
                      shared=True, known_good=good)
    ).result(10)  # fmt: skip
    return caption_id


@pytest.mark.parametrize(
    "sent",
    [
        {"files": FORM, "data": {"share": "true"}},
        {"json": {"image": TEXT, "share": True}},
        {"content": PHOTO, "headers": {"Content-Type": "image/png"}, "params": {"share": "true"}},
    ],
)
def test_only_who_says_so_shares_a_photo(client: TestClient, people, sent: dict) -> None:
    other = people()
    assert client.post(URL, files=FORM).json()["shared"] is False
    assert other.get(NEXT).status_code == 204
    made = client.post(URL, **sent).json()
    assert made["shared"] is True and other.get(NEXT).json()["caption_id"] == made["caption_id"]
    assert client.get(f"{URL}/{made['caption_id']}").json()["shared"] is True


@pytest.mark.parametrize("said", [["maybe"], ["true", ""], ["true", "no way"]])
def test_a_wish_that_is_not_understood_is_refused(client: TestClient, said: list[str]) -> None:
    assert client.post(URL, files=FORM, data={"share": said}).status_code == 422
    assert client.post(URL, files=FORM, data={"share": ["true", "false"]}).json()["shared"] is False


def test_what_is_offered_is_seen_and_rated_by_whom_it_was_offered_to(client: TestClient, people) -> None:
    name, (rater, stranger) = shared(client), (people(), people())
    shown = rater.get(NEXT).json()
    assert shown == {
        "caption_id": name, "caption": "a red square", "language": "en",
        "image": {"width": 40, "height": 30},
        "photo": f"/v1/ratings/{name}/photo",
    }  # fmt: skip
    photo = rater.get(shown["photo"])
    assert photo.status_code == 200 and photo.headers["content-type"] == "image/png"
    assert "no-store" in photo.headers["cache-control"] and photo.content.startswith(b"\x89PNG")
    for who in (client, stranger):
        assert who.get(shown["photo"]).status_code == 404
    assert rater.get(f"{URL}/{name}").status_code == 404, "what else is known of it is its owner's"
    assert stranger.put(f"{URL}/{name}/rating", json={"stars": 1}).status_code == 404
    assert rater.put(f"{URL}/{name}/rating", json={"stars": 2, "correction": "a cat"}).status_code == 200
    assert rater.get(NEXT).status_code == 204 and client.get(NEXT).status_code == 204


def test_what_is_skipped_is_not_shown_again(client: TestClient, people) -> None:
    names, rater = {shared(client, png((30 + n, 30))) for n in range(2)}, people()
    first = rater.get(NEXT).json()["caption_id"]
    assert rater.get(NEXT).json()["caption_id"] == first
    second = rater.get(NEXT, params={"skip": first}).json()["caption_id"]
    assert {first, second} == names
    assert rater.get(NEXT, params={"skip": second}).status_code == 204
    assert rater.get(NEXT, params={"skip": "nonsense"}).status_code == 404


def test_an_erased_photo_is_offered_to_nobody_and_seen_by_nobody(client: TestClient, people) -> None:
    name, rater, late = shared(client), people(), people()
    path = rater.get(NEXT).json()["photo"]
    rater.put(f"{URL}/{name}/rating", json={"stars": 2})
    assert client.delete(f"{URL}/{name}").status_code == 204
    assert [who.get(NEXT).status_code for who in (rater, late)] == [204, 204]
    assert rater.get(path).status_code == 404
    assert rater.put(f"{URL}/{name}/rating", json={"stars": 2}).status_code == 404
    with client.app.state.services.store.reader.connect() as connection:
        assert connection.execute(select(Offer)).all() == connection.execute(select(Rating)).all() == []


def test_who_erases_everything_of_theirs_was_offered_nothing(client: TestClient, people) -> None:
    name, rater = shared(client), people()
    rater.get(NEXT)
    rater.put(f"{URL}/{name}/rating", json={"stars": 2})
    assert rater.delete("/v1/me").status_code == 204
    with client.app.state.services.store.reader.connect() as connection:
        assert connection.execute(select(Offer)).all() == connection.execute(select(Rating)).all() == []


def test_gold_items_look_like_any_other_and_are_no_captions_of_a_version(client: TestClient, people) -> None:
    names = {add_gold(client, number, number % 2 == 0) for number in range(2)}
    rater, seen = people(), set()
    for _ in range(2):
        shown = rater.get(NEXT).json()
        assert set(shown) == {"caption_id", "caption", "language", "image", "photo"}
        assert rater.get(shown["photo"]).status_code == 200
        seen.add(shown["caption_id"])
        good = int(shown["caption_id"][4:]) % 2 == 0
        rated = rater.put(f"{URL}/{shown['caption_id']}/rating", json={"stars": 5 if good else 1})
        assert rated.status_code == 200
    assert seen == names and rater.get(NEXT).status_code == 204, "they are known, and there is nothing else"
    statistics = client.get("/v1/statistics").json()
    assert (
        statistics["totals"]["captions"] == statistics["totals"]["ratings"] == 0
        and statistics["by_version"] == []
    )
    assert CORPUS not in client.get("/metrics").text
    other = people()
    assert other.put(f"{URL}/{names.pop()}/rating", json={"stars": 5}).status_code == 404


def test_without_a_share_there_are_no_gold_items(gateway: Gateway) -> None:
    client = gateway(gold_share=0)
    add_gold(client, 0, True)
    assert client.get(NEXT).status_code == 204


def test_a_network_is_noted_by_a_name_for_the_day_and_a_key_has_none(gateway: Gateway) -> None:
    client = gateway(trusted_proxies="1")
    made = client.post(URL, files=FORM).json()["caption_id"]
    for number, address in enumerate(("8.8.8.8", "8.8.8.200", "9.9.9.9", "10.0.0.1")):
        rater = TestClient(client.app)
        headers = {"X-Forwarded-For": address}
        rater.put(f"{URL}/{made}/rating", json={"stars": 1 + number}, headers=headers).raise_for_status()
    with client.app.state.services.store.reader.connect() as connection:
        names = dict(connection.execute(select(Rating.stars, Rating.network)).tuples().all())
    assert names[1] == names[2] != names[3] and names[1] is not None and names[4] is None
    assert not any("8.8" in str(name) for name in names.values())
