"""A captioner that carries what was found out about it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from captionloop.evaluation.calibration import CalibrationReport, as_calibration

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.vision.familiarity import Familiarity


def attach(
    captioner: "Captioner",
    evaluation: Mapping[str, Any],
    card: str,
    calibration: CalibrationReport | Mapping[str, Any],
    familiarity: "Familiarity | None" = None,
) -> "Captioner":
    """The same captioner with its metrics, model card, calibration and familiarity, ready to be saved as the
    bundle to register.

    Args:
        captioner: as trained.
        evaluation: the whole of `evaluation.json`; the captioner's own rows are kept.
        card: `<model>.card`.
        calibration: `<model>.calibration`.
        familiarity: what it learnt from (`learn_familiarity`).
    """
    report = CalibrationReport.model_validate(calibration)
    name = captioner.name
    metrics = {
        **captioner.metrics,
        "split": evaluation["split"],
        "photos": evaluation["photos"],
        **evaluation["models"][name],
        "calibration_error": {"before": report.error_before, "after": report.error_after},
    }
    return replace(
        captioner,
        metrics=metrics,
        card=card,
        calibration=as_calibration(report),
        familiarity=familiarity,
    )
