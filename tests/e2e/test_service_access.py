"""Keys, scopes, limits and the ways in for programs, before the running service."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from service_process import ServiceProcess, photo

from captionloop.client import CaptionClient, ServiceError
from captionloop.ratings.api_keys import CACHE_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.service]

Command = Callable[..., str]


@pytest.fixture(scope="module")
def captionloop(service: ServiceProcess) -> Command:
    """The command line beside the service, on its database; gives what it prints."""
    program = Path(sys.executable).with_name("captionloop")
    environment = {**os.environ, "CAPTIONLOOP_STATE": str(service.state)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def key(captionloop: Command) -> str:
    return captionloop("keys", "create", "for everything", "--scope", "caption", "--scope", "rate")


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def test_a_key_does_what_its_scopes_say_until_it_is_revoked(
    client: httpx.Client, captionloop: Command
) -> None:
    key = captionloop("keys", "create", "only rates", "--scope", "rate")
    made = client.post("/v1/captions", files={"image": photo()}).json()
    client.headers["Authorization"] = f"Bearer {key}"
    rating = f"/v1/captions/{made['caption_id']}/rating"
    assert client.put(rating, json={"stars": 5}).status_code == 200
    refused = client.post("/v1/captions", files={"image": photo()})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:captionloop:problem:scope-missing")
    captionloop("keys", "revoke", key.split("_")[1])
    time.sleep(CACHE_SECONDS + 0.1)
    ended = client.put(rating, json={"stars": 5})
    assert (ended.status_code, ended.json()["type"]) == (401, "urn:captionloop:problem:key-invalid")
    assert ended.headers["www-authenticate"] == "Bearer"


def test_a_quota_is_told_in_headers_and_its_end_is_429(client: httpx.Client, captionloop: Command) -> None:
    client.headers["X-API-Key"] = captionloop("keys", "create", "eager")
    answers = [client.post("/v1/captions", files={"image": photo(size=(64, 64))}) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [201] * 20 + [429]
    assert [int(answer.headers["ratelimit-remaining"]) for answer in answers] == [*range(19, -1, -1), 0]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"20"}
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert answers[-1].json()["type"] == "urn:captionloop:problem:rate-limited"
    assert client.get("/v1/model").status_code == 200, "other calls have a quota of their own"


def test_the_python_client_goes_all_the_way(service: ServiceProcess, key: str, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo())
    with CaptionClient(service.url, key=key) as client:
        made = client.caption(file)
        assert made.caption == " ".join(word.text for word in made.words)
        before = client.statistics().totals
        assert client.rate(made.caption_id, stars=4, correction="a better one").stars == 4
        after = client.statistics().totals
        assert (after.ratings, after.corrections) == (before.ratings + 1, before.corrections + 1)
        read = client.read(made.caption_id)
        assert read.rating is not None and read.rating.correction == "a better one"
        assert client.model().version == made.model.version
        client.erase(made.caption_id)
        with pytest.raises(ServiceError, match="Not found"):
            client.read(made.caption_id)


def test_the_command_line_asks_the_service(
    service: ServiceProcess, captionloop: Command, key: str, tmp_path: Path
) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo())
    with CaptionClient(service.url) as client:
        expected = client.caption(file).caption
    assert captionloop("caption", str(file), "--url", service.url, "--key", key) == expected
