"""What a proxy says is believed if the proxy is, and the service is right about itself behind it."""

import pytest
from serving_fakes import PHOTO
from starlette.testclient import TestClient

from captionloop.errors import ConfigurationError
from captionloop.serving.service_settings import Settings

FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "photos.example",
    "X-Forwarded-Prefix": "/tools/captions/",
}


def made_at(client: TestClient, path: str = "/v1/captions", **headers: str):
    return client.post(path, content=PHOTO, headers={"Content-Type": "image/png", **headers})


@pytest.mark.parametrize("path", ["/v1/captions", "/tools/captions/v1/captions"])
def test_behind_a_trusted_proxy_the_prefix_is_part_of_all_addresses(gateway, path: str) -> None:
    """Whether the proxy takes the prefix off the path or leaves it there."""
    client = gateway(trusted_proxies="1")
    made = made_at(client, path, **FORWARDED)
    assert made.status_code == 201
    assert made.headers["location"] == f"/tools/captions/v1/captions/{made.json()['caption_id']}"
    assert "secure" in made.headers["set-cookie"].lower()
    assert '"/tools/captions/openapi.json"' in client.get("/docs", headers=FORWARDED).text.replace("'", '"')
    assert client.get("/openapi.json", headers=FORWARDED).json()["servers"] == [{"url": "/tools/captions"}]
    assert client.get("/tools/captions/livez", headers=FORWARDED).status_code == 200
    large = client.put("/v1/captions/x/rating", content=b"x" * 70_000, headers=FORWARDED)
    assert large.status_code == 413, "limits go by our own path"


def test_others_are_not_believed(client: TestClient) -> None:
    made = made_at(client, **FORWARDED)
    assert made.headers["location"].startswith("/v1/captions/")
    assert "servers" not in client.get("/openapi.json", headers=FORWARDED).json()


def test_a_prefix_may_be_a_setting(gateway) -> None:
    client = gateway(root_path="/captions")
    assert made_at(client, "/captions/v1/captions").headers["location"].startswith("/captions/v1/captions/")
    assert made_at(client).headers["location"].startswith("/captions/v1/captions/")


@pytest.mark.parametrize("prefix", ["//evil.example", "/a b", "/<script>", "/" + "x" * 300, "x"])
def test_a_prefix_that_is_no_path_is_ignored(gateway, prefix: str) -> None:
    client = gateway(trusted_proxies="1")
    made = made_at(client, **{**FORWARDED, "X-Forwarded-Prefix": prefix})
    assert made.headers["location"].startswith("/v1/captions/")


@pytest.mark.parametrize("value", ["11", "nonsense", "10.0.0.0/99", "*", ""])
def test_proxies_that_cannot_be_are_named_at_the_start(value: str) -> None:
    if value == "":
        assert Settings.from_environment({"CAPTIONLOOP_TRUSTED_PROXIES": ""}).trusted_proxies == "0"
        return
    with pytest.raises(ConfigurationError, match="CAPTIONLOOP_TRUSTED_PROXIES"):
        Settings.from_environment({"CAPTIONLOOP_TRUSTED_PROXIES": value})
