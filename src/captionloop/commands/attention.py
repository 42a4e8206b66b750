"""The figure of `captionloop caption --attention`: the photo, lit for each word where the model looked."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from captionloop.commands.answers import Answer, AnsweredWord
from captionloop.errors import ConfigurationError
from captionloop.evaluation.gallery import spotlight
from captionloop.evaluation.style import INK, MUTED, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_COLUMNS = 6
_INCHES = 2.0


def attention_figure(photo: bytes, answer: Answer) -> "Figure":
    """The photo, and once more for every word of its caption.

    Raises `ConfigurationError` where the model does not attend: there is nothing to draw then.
    """
    from captionloop.images import load_square

    if all(word.attention is None for word in answer.words):
        raise ConfigurationError(
            f"Model {answer.model} has no attention to draw: choose one that attends (show_attend_tell)"
        )
    picture = load_square(photo, 256)
    count = 1 + len(answer.words)
    rows, columns = ceil(count / _COLUMNS), min(count, _COLUMNS)
    drawn = figure(_INCHES * columns, (_INCHES + 0.35) * rows + 0.4)
    drawn.suptitle(answer.caption, x=0.01, ha="left", color=INK, fontsize=12, fontweight="bold")
    panels: Sequence[Axes] = list(drawn.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(picture)
    panels[0].set_title(f"confidence {100 * answer.confidence:.0f} %", color=MUTED, fontsize=9)
    for panel, word in zip(panels[1:], answer.words, strict=False):
        panel.imshow(_lit(picture, word))
        panel.set_title(f"{word.text}  {100 * word.confidence:.0f} %", color=INK, fontsize=10)
    return drawn


def _lit(picture: "NDArray[np.uint8]", word: AnsweredWord) -> "NDArray[np.uint8]":
    if word.attention is None:
        return picture
    return spotlight(picture, np.asarray(word.attention, np.float32))
