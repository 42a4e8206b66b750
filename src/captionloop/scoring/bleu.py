"""BLEU (Papineni et al. 2002) as pycocoevalcap computes it: counts for each image, one formula for their
sums.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ORDERS = 4
COLUMNS = (
    *(f"correct_{n}" for n in range(1, 5)),
    *(f"guessed_{n}" for n in range(1, 5)),
    "length",
    "reference_length",
)

# pycocoevalcap's guards against dividing by zero: part of the number that everybody reports.
_TINY, _SMALL = 1e-15, 1e-9


def statistics(captions: Sequence[tuple[str, Sequence[str]]]) -> Floats:
    """The counts `COLUMNS` of each (hypothesis, references), all tokenised: `[captions, 10]`.

    The reference length is that of the reference closest in length, the shorter one on a tie.
    """
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    rows = []
    for hypothesis, references in captions:
        counted = cook_test(hypothesis, cook_refs(references, n=ORDERS), eff="closest", n=ORDERS)
        rows.append([*counted["correct"], *counted["guess"], counted["testlen"], counted["reflen"]])
    return np.array(rows, np.float64).reshape(-1, len(COLUMNS))


def corpus_bleu(sums: Floats) -> Floats:
    """BLEU-1 to BLEU-4 from summed counts `[..., 10]`: `[..., 4]`."""
    correct, guessed = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    precision = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=-1)
    bleu = precision ** (1 / np.arange(1, ORDERS + 1))
    ratio = (sums[..., -2] + _TINY) / (sums[..., -1] + _SMALL)
    penalty = np.where(ratio < 1, np.exp(np.minimum(0.0, 1 - 1 / ratio)), 1.0)
    return np.asarray(bleu * penalty[..., None])
