"""A candidate with all that was found out about it, entered into the registry."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionloop.registry.evidence import KeptCaptions, save_training_data
from captionloop.registry.gate import GateDecision
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import ModelVersion
from captionloop.scoring.scores import METRICS

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner


def enter(
    registry: ModelRegistry,
    candidate: "Captioner",
    kept: KeptCaptions,
    decision: GateDecision,
    report: str,
    *,
    training_data: Mapping[str, Any] | None = None,
    promote: bool = True,
) -> ModelVersion:
    """Registers the candidate with its captions and the gate's decision, and promotes it if that says so.

    `training_data`, what it was trained on, is kept beside it: what is served later is compared with that.
    With `promote=False` it stays the challenger, for somebody else to promote.

    Repeated after being killed anywhere, it ends in the same state.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        candidate.save(place / "bundle")
        kept.save(place / "evidence")
        if training_data is not None:
            save_training_data(training_data, place / "evidence")
        version = registry.register(
            place / "bundle",
            evidence=place / "evidence",
            metrics=_point_values(candidate.metrics),
            lineage={"model": candidate.name, **candidate.lineage},
        )
    registry.record_decision(version.version, decision, report)
    if decision.promoted and promote:
        registry.promote(version.version)
    return registry.version(version.version)


def _point_values(metrics: dict[str, Any]) -> dict[str, float]:
    """`{metric: value}` from a bundle's `metrics.json`, whose metrics have intervals."""
    return {name: float(metrics[name]["value"]) for name in METRICS if name in metrics}
