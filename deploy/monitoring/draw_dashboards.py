"""Draws the Grafana dashboards as JSON: `python deploy/monitoring/draw_dashboards.py` after a change here.

A panel is its title, its unit, and its queries with their legends. A test runs every query against a real
Prometheus that has scraped the running service.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """One chart: its queries by legend; `{{label}}` in a legend is the label's value."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"


def quantile(share: float, metric: str, by: str = "le", only: str = "") -> str:
    """A quantile of a histogram over five minutes."""
    return f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{only}[5m])))"


def mean(metric: str, by: str = "version") -> str:
    """The mean of a histogram over five minutes."""
    return f"sum by ({by}) (rate({metric}_sum[5m])) / sum by ({by}) (rate({metric}_count[5m]))"


SERVICE = [
    Panel(
        "Requests a second", "reqps", {"{{status}}": "sum by (status) (rate(captionloop_requests_total[5m]))"}
    ),
    Panel(
        "Share of errors under /v1",
        "percentunit",
        {
            "errors": '(sum(rate(captionloop_requests_total{route=~"/v1/.*", status=~"5.."}[5m]))'
            " or vector(0))"
            ' / sum(rate(captionloop_requests_total{route=~"/v1/.*"}[5m]))',
            "objective": "vector(0.005)",
        },
    ),
    Panel(
        "Time to a caption",
        "s",
        {
            "half within": quantile(0.5, "captionloop_request_seconds", only='{route="/v1/captions"}'),
            "95 % within": quantile(0.95, "captionloop_request_seconds", only='{route="/v1/captions"}'),
            "objective": "vector(2.5)",
        },
    ),
    Panel(
        "Time in each stage (95 %)",
        "s",
        {"{{stage}}": quantile(0.95, "captionloop_stage_seconds", "le, stage")},
    ),
    Panel(
        "Under way",
        "short",
        {
            "captions in gateways": "sum(captionloop_captions_in_flight)",
            "photos with the model": "sum(captionloop_model_queue_images)",
            "writes that wait": "sum(captionloop_writes_waiting)",
        },
    ),
    Panel(
        "Refused, by reason",
        "reqps",
        {"{{problem}}": "sum by (problem) (rate(captionloop_refused_total[5m]))"},
    ),
    Panel(
        "Photos in a batch",
        "short",
        {
            "mean": "sum(rate(captionloop_batch_images_sum[5m]))"
            " / sum(rate(captionloop_batch_images_count[5m]))"
        },
    ),
    Panel(
        "Time for a batch",
        "s",
        {
            "half within": quantile(0.5, "captionloop_batch_seconds"),
            "95 %": quantile(0.95, "captionloop_batch_seconds"),
        },
    ),
    Panel("Memory held by uploads", "bytes", {"all gateways": "sum(captionloop_upload_bytes)"}),
]
QUALITY = [
    Panel(
        "Captions a minute, by version",
        "short",
        {"{{version}}": "60 * sum by (version) (rate(captionloop_captions_total[5m]))"},
    ),
    Panel("Confidence (mean)", "percentunit", {"{{version}}": mean("captionloop_caption_confidence")}),
    Panel("Words in a caption (mean)", "short", {"{{version}}": mean("captionloop_caption_words")}),
    Panel(
        "Ratings a minute, by stars",
        "short",
        {"{{stars}}": "60 * sum by (stars) (rate(captionloop_ratings_total[5m]))"},
    ),
    Panel(
        "Share of good ratings (4 or 5 stars), by version",
        "percentunit",
        {
            "{{version}}": 'sum by (version) (rate(captionloop_ratings_total{stars=~"[45]"}[5m]))'
            " / sum by (version) (rate(captionloop_ratings_total[5m]))"
        },
    ),
    Panel(
        "Corrections a minute",
        "short",
        {"{{version}}": "60 * sum by (version) (rate(captionloop_corrections_total[5m]))"},
    ),
    Panel(
        "Share of captions that are rated",
        "percentunit",
        {"all": "sum(rate(captionloop_ratings_total[5m])) / sum(rate(captionloop_captions_total[5m]))"},
    ),
    Panel(
        "Low confidence (share at most 0.3)",
        "percentunit",
        {
            "{{version}}": 'sum by (version) (rate(captionloop_caption_confidence_bucket{le="0.3"}[5m]))'
            " / sum by (version) (rate(captionloop_caption_confidence_count[5m]))"
        },
    ),
    Panel(
        "Photos unlike anything learnt from (share)",
        "percentunit",
        {
            "{{version}}": "sum by (version) (rate(captionloop_unfamiliar_captions_total[5m]))"
            " / sum by (version) (rate(captionloop_captions_total[5m]))"
        },
    ),
    Panel("Erased on request", "short", {"an hour": "3600 * sum(rate(captionloop_erasures_total[5m]))"}),
]
LOOP = [
    Panel(
        "Version that is served",
        "short",
        {"{{name}} {{version}}": "max by (name, version) (captionloop_model_info) == 1"},
        "stat",
    ),
    Panel("A model is loaded", "bool_yes_no", {"": "max(captionloop_model_ready)"}, "stat"),
    Panel(
        "Since the last retraining",
        "s",
        {"": "time() - max(captionloop_retraining_last_success_timestamp_seconds)"},
        "stat",
    ),
    Panel("New champions taken over", "short", {"in all": "sum(captionloop_model_swaps_total)"}),
    Panel(
        "Models that could not be loaded", "short", {"in all": "sum(captionloop_model_load_failures_total)"}
    ),
    Panel(
        "Time to load a model",
        "s",
        {"mean": "sum(captionloop_model_load_seconds_sum) / sum(captionloop_model_load_seconds_count)"},
    ),
    Panel("Drift, by signal", "short", {"{{signal}}": "max by (signal) (captionloop_drift_signal)"}),
    Panel("The newest report speaks of drift", "bool_yes_no", {"": "max(captionloop_drifted)"}, "stat"),
    Panel("New ratings in a day", "short", {"ratings": "sum(increase(captionloop_ratings_total[1d]))"}),
]
DASHBOARDS = {
    "service": ("captionloop: service", SERVICE),
    "quality": ("captionloop: model quality", QUALITY),
    "loop": ("captionloop: loop", LOOP),
}


def drawn(number: int, panel: Panel) -> dict[str, Any]:
    """A panel as Grafana wants it, in its place."""
    place = {"x": number % COLUMNS * WIDTH, "y": number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"captionloop-{name}",
        "title": title,
        "tags": ["captionloop"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [drawn(number, panel) for number, panel in enumerate(panels)],
    }


def text(name: str) -> str:
    """Its file's content."""
    return json.dumps(dashboard(name), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")
