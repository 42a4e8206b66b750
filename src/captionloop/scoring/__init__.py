"""Captions and references in, metrics with confidence intervals out. Knows no model."""

from captionloop.scoring.bootstrap import Difference, Interval, bootstrap, paired_bootstrap
from captionloop.scoring.cider import CiderD
from captionloop.scoring.scores import METRICS, Scores, left_out, score, score_systems, tokenized

__all__ = [
    "METRICS",
    "CiderD",
    "Difference",
    "Interval",
    "Scores",
    "bootstrap",
    "left_out",
    "paired_bootstrap",
    "score",
    "score_systems",
    "tokenized",
]
