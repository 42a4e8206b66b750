"""Figures of numbers: reliability of confidences, training curves, quality against latency."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captionloop.evaluation.calibration import Acceptance, Bin, CalibrationReport
from captionloop.evaluation.latency import Latency
from captionloop.evaluation.style import INK, MUTED, colour, figure, tidy
from captionloop.evaluation.table import label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def reliability_figure(reports: Sequence[CalibrationReport]) -> "Figure":
    """Share of right words, and of accepted captions, against confidence, for each model before and after
    calibration.
    """
    rows = 2 if any(report.acceptance for report in reports) else 1
    drawn = figure(4.2 * len(reports), 4.3 * rows)
    panels = drawn.subplots(rows, len(reports), squeeze=False)
    for place, report in enumerate(reports):
        axes = "confidence of a word", "share of such words that are right"
        _before_and_after(panels[0][place], report, "as decoded", colour(place))
        tidy(panels[0][place], title=report.model, x=axes[0], y=axes[1])
        if report.acceptance is not None:
            axes = "confidence of a caption", "share of such captions that are accepted"
            _before_and_after(panels[1][place], report.acceptance, "all words at once", colour(place))
            tidy(panels[1][place], title=report.model, x=axes[0], y=axes[1])
        elif rows == 2:
            panels[1][place].set_axis_off()
    return drawn


def _before_and_after(panel: "Axes", report: CalibrationReport | Acceptance, before: str, paint: str) -> None:
    panel.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
    _reliability(panel, report.bins_before, MUTED, f"{before}, error {100 * report.error_before:.1f}")
    _reliability(panel, report.bins_after, paint, f"calibrated, error {100 * report.error_after:.1f}")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_aspect("equal")
    panel.legend(frameon=False, fontsize=9, loc="lower right", labelcolor=INK)


def _reliability(panel: "Axes", binned: Sequence[Bin], paint: str, name: str) -> None:
    confidence = [one.confidence for one in binned]
    right = [one.right for one in binned]
    sizes = np.array([one.count for one in binned])
    panel.plot(confidence, right, color=paint, linewidth=1.6, label=name, zorder=3)
    panel.scatter(confidence, right, s=12 + 160 * sizes / sizes.sum(), color=paint, zorder=4, linewidth=0)


def curves_figure(curves: "Mapping[str, pd.DataFrame]") -> "Figure":
    """Loss and validation CIDEr of every model by epoch; a dot marks the epoch that was kept.

    `curves[model]` has a row for each epoch: `epoch`, `train_loss`, `val_loss`, `val_cider` (as a fraction).
    """
    drawn = figure(10, 4)
    losses, ciders = drawn.subplots(1, 2)
    for place, (model, rows) in enumerate(curves.items()):
        paint = colour(place)
        losses.plot(rows["epoch"], rows["train_loss"], color=paint, linestyle=(0, (1, 1.5)))
        losses.plot(rows["epoch"], rows["val_loss"], color=paint, marker=".", label=model)
        values = 100 * rows["val_cider"].to_numpy(np.float64)
        best = int(values.argmax())
        kept = (float(rows["epoch"].iloc[best]), float(values[best]))
        ciders.plot(rows["epoch"], values, color=paint, label=f"{model}, best {kept[1]:.1f}")
        ciders.scatter(*kept, color=paint, s=42, zorder=4)
    losses.set_ylim(bottom=0)  # what teaching by reward minimises can be negative, and is no loss to compare
    tidy(losses, title="Loss (dotted: training; solid: validation)", x="epoch")
    tidy(ciders, title="CIDEr x100 on validation, while training", x="epoch")
    for panel in (losses, ciders):
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend(frameon=False, fontsize=9, labelcolor=INK)
    return drawn


def pareto_figure(evaluation: Mapping[str, Any], latencies: Mapping[str, Latency], machine: str) -> "Figure":
    """CIDEr against the time for one photo; the systems that no other beats in both stand on the line."""
    drawn = figure(9.4, 4.8)
    panel = drawn.subplots()
    models = list(dict.fromkeys(name.removesuffix(".greedy") for name in evaluation["models"]))
    for name, metrics in evaluation["models"].items():
        cider, paint = metrics["CIDEr"], colour(models.index(name.removesuffix(".greedy")))
        value = 100 * cider["value"]
        spread = [[value - 100 * cider["low"]], [100 * cider["high"] - value]]
        hollow = name.endswith(".greedy")
        panel.errorbar(
            latencies[name].p50_ms, value, yerr=spread, color=paint, marker="o", markersize=8, linewidth=1.2,
            markerfacecolor="white" if hollow else paint, zorder=3, linestyle="none",
            label=label(name, evaluation),
        )  # fmt: skip
    front = pareto_front(
        {
            name: (latencies[name].p50_ms, evaluation["models"][name]["CIDEr"]["value"])
            for name in evaluation["models"]
        }
    )
    points = [(latencies[name].p50_ms, 100 * evaluation["models"][name]["CIDEr"]["value"]) for name in front]
    panel.plot(*zip(*points, strict=True), color=MUTED, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    tidy(
        panel,
        title="Quality against time (dashed: nothing is both faster and better)",
        x=f"ms for one photo, median ({machine})",
        y="CIDEr x100",
    )
    panel.margins(x=0.1, y=0.15)
    panel.set_xlim(left=0)
    panel.legend(frameon=False, fontsize=9, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The systems, fastest first, that none is both as fast and better than: `points[name] = (time,
    quality)`.
    """
    front: list[str] = []
    for name, (_, quality) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not front or quality > points[front[-1]][1]:
            front.append(name)
    return front
