"""How all figures look: one set of colours, thin lines, no frames."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def figure(width: float, height: float) -> "Figure":
    """An empty figure in inches; made without pyplot, so that nothing is kept behind our back."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, facecolor="white", layout="constrained")


def tidy(axes: "Axes", *, title: str = "", x: str = "", y: str = "") -> None:
    """Takes away what carries nothing."""
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
