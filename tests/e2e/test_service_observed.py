"""What an operator sees of the running service: metrics, logs, traces."""

import json
import re
import time
import uuid

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_process import ServiceProcess, photo
from span_collector import SpanCollector

pytestmark = [pytest.mark.e2e, pytest.mark.service]

STAGES = {"upload", "decode", "model", "store"}
PROMISED = {
    "captionloop_requests",
    "captionloop_request_seconds",
    "captionloop_stage_seconds",
    "captionloop_captions_in_flight",
    "captionloop_upload_bytes",
    "captionloop_writes_waiting",
    "captionloop_refused",
    "captionloop_captions",
    "captionloop_caption_confidence",
    "captionloop_caption_words",
    "captionloop_ratings",
    "captionloop_corrections",
    "captionloop_batch_images",
    "captionloop_batch_seconds",
    "captionloop_model_queue_images",
    "captionloop_model_info",
    "captionloop_model_ready",
    "captionloop_model_swaps",
    "captionloop_model_load_seconds",
}


@pytest.fixture(scope="module")
def request_id(service: ServiceProcess) -> str:
    """Of a caption that was made, rated and corrected."""
    name = uuid.uuid4().hex
    with httpx.Client(base_url=service.url, headers={"X-Request-ID": name}, timeout=60) as client:
        made = client.post("/v1/captions", files={"image": ("grandma.jpg", photo(), "image/jpeg")})
        assert made.headers["x-request-id"] == name
        rating = {"stars": 2, "correction": "my sister's secret garden", "comment": "call 555-0100"}
        assert client.put(f"{made.headers['location']}/rating", json=rating).status_code == 200
        assert client.put("/v1/captions/nothing/rating", json=rating).status_code == 404
    return name


@pytest.fixture(scope="module")
def metrics(service: ServiceProcess, request_id: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    families = text_string_to_metric_families(httpx.get(f"{service.url}/metrics").text)
    return {family.name: [(each.labels, each.value) for each in family.samples] for family in families}


def test_every_promised_metric_is_there(metrics) -> None:
    assert set(metrics) >= PROMISED


def test_latency_is_told_by_stage_and_ratings_by_version(metrics) -> None:
    assert {labels["stage"] for labels, _ in metrics["captionloop_stage_seconds"]} == STAGES
    served = {
        labels["version"] for labels, value in metrics["captionloop_model_info"] if value == 1 and labels
    }
    assert len(served) == 1
    assert any(labels.get("version") in served for labels, _ in metrics["captionloop_ratings"])


def test_labels_hold_nothing_that_a_caller_made_up(metrics) -> None:
    routes = {labels["route"] for labels, _ in metrics["captionloop_requests"]}
    assert "/v1/captions/{caption_id}/rating" in routes
    assert not any("nothing" in route for route in routes)


def test_logs_are_json_lines_with_the_request_id_and_no_content(
    service: ServiceProcess, request_id: str
) -> None:
    text = service.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    mine = [line for line in lines if line.get("request_id") == request_id]
    assert [(line["method"], line["status"]) for line in mine if line["event"] == "request"] == [
        ("POST", 201), ("PUT", 200), ("PUT", 404),
    ]  # fmt: skip
    assert {line["service"] for line in lines} == {"gateway", "model"}
    assert not re.search(r"grandma|secret garden|555-0100", text)


def test_a_request_is_one_trace_with_its_stages(collector: SpanCollector, request_id: str) -> None:
    deadline = time.monotonic() + 20
    while not (whole := [trace for trace in collector.traces() if trace.keys() >= STAGES]):
        assert time.monotonic() < deadline, "no trace of a caption arrived"
        time.sleep(0.1)
    trace = whole[0]
    root = trace["POST /v1/captions"]
    assert all(trace[stage].parent_span_id == root.span_id for stage in STAGES)
    assert sum(trace[stage].end_time_unix_nano - trace[stage].start_time_unix_nano for stage in STAGES) <= (
        root.end_time_unix_nano - root.start_time_unix_nano
    )
