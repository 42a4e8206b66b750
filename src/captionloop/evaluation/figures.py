"""Figures of numbers in one style: reliability, training curves, quality against latency."""

import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from captionloop.evaluation.calibration import Acceptance, Bin, CalibrationReport
from captionloop.evaluation.evaluation_report import label
from captionloop.evaluation.latency import Latency

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

INK: Final = "#1f2933"
MUTED: Final = "#7b8794"
RULE: Final = "#e4e7eb"
COLOURS: Final = (
    "#0b7285",
    "#e8590c",
    "#5f3dc4",
    "#2b8a3e",
    "#c2255c",
    "#495057",
)  # told apart without red/green


def colour(index: int) -> str:
    """The colour of the model at this place, the same in every figure."""
    return COLOURS[index % len(COLOURS)]


_BOX: Final = "□"
_DEFAULT: Final = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, and more


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Within it, figures are written in fonts of this machine that have the letters of these texts.

    Gives what makes a text drawable: a letter that no font has becomes a box, as one line in the log says.
    """
    import matplotlib as mpl

    wanted = {character for text in texts for character in text if _is_visible(character)}
    families, missing = _families(wanted)
    if missing:
        logger.warning(
            "No font of this machine has %d letters of the captions (%s): figures show boxes; install one"
            " that does, as the Debian packages fonts-noto-core and fonts-noto-cjk",
            len(missing), " ".join(sorted(missing)[:5]),
        )  # fmt: skip
    boxes = str.maketrans(dict.fromkeys(missing, _BOX))
    with mpl.rc_context({"font.family": families}):
        yield lambda text: text.translate(boxes)


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in {"Cf", "Cc"}


def _families(wanted: set[str]) -> tuple[list[str], set[str]]:
    """Font families that together have these characters, and those that none has."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    def has(path: str) -> set[str]:
        try:
            return wanted & set(map(chr, get_font(path).get_charmap()))
        except (OSError, RuntimeError):  # a font that cannot be read is none
            return set()

    families, missing = [_DEFAULT], wanted - has(findfont(_DEFAULT))
    for font in sorted(fontManager.ttflist, key=lambda font: (font.weight != 400, font.name, font.fname)):
        if not missing:
            break
        if font.style == "normal" and "LastResort" not in font.fname and (found := missing & has(font.fname)):
            families.append(font.name)
            missing -= found
    return families, missing


def figure(width: float, height: float) -> "Figure":
    """An empty figure in inches; made without pyplot, so that nothing is kept behind our back."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, facecolor="white", layout="constrained")


def style_axes(axes: "Axes", *, title: str = "", x: str = "", y: str = "") -> None:
    """Gives axes the common style: title, labels, light grid, no upper and right spines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.grid(visible=True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=INK, fontsize=9.5)
    axes.set_ylabel(y, color=INK, fontsize=9.5)


def reliability_figure(reports: Sequence[CalibrationReport]) -> "Figure":
    """Share of right words, and of accepted captions, against confidence, for each model before and after
    calibration.
    """
    rows = 2 if any(report.acceptance for report in reports) else 1
    fig = figure(4.2 * len(reports), 4.3 * rows)
    panels = fig.subplots(rows, len(reports), squeeze=False)
    for place, report in enumerate(reports):
        labels = "confidence of a word", "share of such words that are right"
        _before_and_after(panels[0][place], report, "as decoded", colour(place))
        style_axes(panels[0][place], title=report.model, x=labels[0], y=labels[1])
        if report.acceptance is not None:
            labels = "confidence of a caption", "share of such captions that are accepted"
            _before_and_after(panels[1][place], report.acceptance, "all words at once", colour(place))
            style_axes(panels[1][place], title=report.model, x=labels[0], y=labels[1])
        elif rows == 2:
            panels[1][place].set_axis_off()
    return fig


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
    fig = figure(10, 4)
    losses, ciders = fig.subplots(1, 2)
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
    style_axes(losses, title="Loss (dotted: training; solid: validation)", x="epoch")
    style_axes(ciders, title="CIDEr x100 on validation, while training", x="epoch")
    for panel in (losses, ciders):
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend(frameon=False, fontsize=9, labelcolor=INK)
    return fig


def pareto_figure(evaluation: Mapping[str, Any], latencies: Mapping[str, Latency], machine: str) -> "Figure":
    """CIDEr against the time for one photo; the systems that no other beats in both stand on the line."""
    fig = figure(9.4, 4.8)
    panel = fig.subplots()
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
    style_axes(
        panel,
        title="Quality against time (dashed: nothing is both faster and better)",
        x=f"ms for one photo, median ({machine})",
        y="CIDEr x100",
    )
    panel.margins(x=0.1, y=0.15)
    panel.set_xlim(left=0)
    panel.legend(frameon=False, fontsize=9, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The systems, fastest first, that none is both as fast and better than: `points[name] = (time,
    quality)`.
    """
    front: list[str] = []
    for name, (_, quality) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not front or quality > points[front[-1]][1]:
            front.append(name)
    return front


def encoder_curves_figure(curves: pd.DataFrame) -> Figure:
    """Losses, and the mean average precision on the validation split, by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, precision = figure.subplots(1, 2)
    losses.plot(curves["epoch"] + 1, curves["train_loss"], marker=".", label="train")
    losses.plot(curves["epoch"] + 1, curves["val_loss"], marker=".", label="validation")
    losses.set(title="Concept loss", xlabel="epoch", ylabel="nats per photo")
    losses.legend()
    precision.plot(curves["epoch"] + 1, curves["val_map"], marker=".", color="tab:green")
    precision.set(title="Concepts found, validation", xlabel="epoch", ylabel="mean average precision")
    for axes in (losses, precision):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
