"""Ratings that contradict themselves: praise for a caption, and a correction that has nothing of it.

Whoever finds a caption good and betters it keeps something of it. Where the correction shares nothing with
the caption, it was meant for another photo, or the stars were given blindly.
"""

import pandas as pd

from captionloop.feedback.parameters import Contradiction
from captionloop.language.languages import ENGLISH, Language
from captionloop.scoring.rarity import Rarity


def contradicting(
    ratings: pd.DataFrame, corpus: pd.DataFrame, rules: Contradiction, language: Language = ENGLISH
) -> "pd.Series[bool]":
    """Which ratings contradict themselves. Rows without a correction do not.

    Args:
        ratings: `stars`, `text` (the caption) and `correction`.
        corpus: captions, `image_id` and `text`; they tell how rare words are.
        rules: see `Contradiction`.
        language: of all these texts.
    """
    praised = ratings[(ratings["stars"] >= rules.stars) & ratings["correction"].notna()]
    if praised.empty:
        return pd.Series(False, index=ratings.index)
    rarity = Rarity(corpus.groupby("image_id")["text"].agg(list), language)
    found = [
        rarity.likeness(text, correction) <= rules.likeness
        for text, correction in zip(praised["text"], praised["correction"], strict=True)
    ]
    return pd.Series(found, praised.index).reindex(ratings.index, fill_value=False)
