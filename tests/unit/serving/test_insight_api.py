from serving_fakes import FakeModel
from starlette.testclient import TestClient

from captionloop.serving.gateway.service_routes import numeric_metrics

# As evaluation writes them into a bundle.
WRITTEN = {
    "CIDEr": {"value": 2.49, "low": 2.27, "high": 2.72},
    "photos": 200,
    "split": "test",
    "calibration_error": {"before": 0.18, "after": 0.03},
    "validation": {"CIDEr-D": 2.5, "epoch": 6},
    "METEOR": None,
    "BLEU-4": float("nan"),
}


def test_of_what_a_bundle_notes_only_numbers_are_metrics() -> None:
    assert set(numeric_metrics(WRITTEN)) == {"CIDEr", "photos"}


def test_the_model_is_described_whatever_its_bundle_notes(client: TestClient, model: FakeModel) -> None:
    model.metrics = WRITTEN
    client.app.state.services.model._latest = client.portal.call(model.describe)  # type: ignore[attr-defined]
    answer = client.get("/v1/model")
    assert answer.status_code == 200
    assert answer.json()["metrics"] == {"CIDEr": WRITTEN["CIDEr"], "photos": 200}
