"""The gate's reason for display: metrics in points (0.58 is 58), without the word "promoted".

Passing the gate is not being promoted: a person may be asked first, and what fails when it is served is
rolled back. So a verdict does not say "promoted".
"""

import re
from typing import Final

METRICS: Final = ("CIDEr", "BLEU-4", "METEOR", "ROUGE-L")
"""Those of the gate that are in points on pages for people."""
IN_POINTS: Final = f"{', '.join(METRICS[:-1])} and {METRICS[-1]} are in points: 58 is 0.58 in reports."

_SIGNED: Final = re.compile(r"(?<![\d.])[+-]\d\.\d{3}(?!\d)")
_MARGIN: Final = re.compile(r"(?<=margin of )\d*\.?\d+(?! points)")
_CHECK: Final = re.compile(rf"({'|'.join(METRICS)}) is ([\d.]+), at (least|most) ([\d.]+) is wanted")
_DECIDED: Final = re.compile(r"^(?:Not p|P)romoted: (\w)")


def readable_reason(reason: str) -> str:
    """A decision's reason with its metrics in points, without "Promoted:" or "Not promoted:"."""
    text = _DECIDED.sub(lambda match: match[1].upper(), reason)
    text = _MARGIN.sub(lambda match: f"{100 * float(match[0]):g} points", text)
    text = _CHECK.sub(_check_in_points, text)
    return _SIGNED.sub(lambda match: f"{100 * float(match[0]):+.1f}", text)


def formatted_value(name: str, value: float) -> str:
    """A value of a check as it stands in a table."""
    return f"{100 * value:.1f}" if name.startswith(METRICS) else f"{value:.4g}"


def _check_in_points(match: re.Match[str]) -> str:
    value, limit = (f"{100 * float(match[group]):.1f}" for group in (2, 4))
    return f"{match[1]} is {value}, at {match[3]} {limit} is wanted"
