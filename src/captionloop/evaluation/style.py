"""How all figures look: one set of colours, thin lines, no frames."""

import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

    wanted = {character for text in texts for character in text if _is_seen(character)}
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


def _is_seen(character: str) -> bool:
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
