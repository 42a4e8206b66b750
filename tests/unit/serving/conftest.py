from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_fakes import FakeModel
from starlette.testclient import TestClient

from captionloop.serving.gateway.app import build_services, create_app
from captionloop.serving.service_settings import Settings

Gateway = Callable[..., TestClient]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def gateway(tmp_path: Path, model: FakeModel) -> Iterator[Gateway]:
    """Makes a gateway with the settings given, in front of the fake model."""
    opened: list[TestClient] = []

    def make(**changes) -> TestClient:
        settings = Settings(state=tmp_path / "state", **changes)
        app = create_app(settings)
        app.state.services = build_services(settings, model)
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        for _ in range(100):
            if not model.ready or app.state.services.model.latest.ready:
                break
            client.get("/livez")
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(gateway: Gateway) -> TestClient:
    return gateway()
