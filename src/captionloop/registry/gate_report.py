"""The gate's decision as people read it: a reason in a line, and a page.

Metrics are in points (0.58 is 58). Passing the gate is not being promoted: a person may be asked first, and
what fails when it is served is rolled back. So a reason does not say "promoted".
"""

import re
from collections.abc import Sequence
from typing import Final

from captionloop.registry.gate_decision import (
    Anchor,
    Check,
    Difference,
    Fresh,
    GateDecision,
    GroupDifference,
    Hallucinations,
    SetUse,
)

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


_MEASURED_FROM = {
    "facts": "told exactly, from the facts of the scenes",
    "references": "visual words that no reference of the photo has",
}


def gate_report(decision: GateDecision) -> str:
    """Markdown: the verdict, the comparisons, and tables of what was looked at and of kinds of photos."""
    return "\n".join(
        [
            f"# {'Passed' if decision.promoted else 'Not passed'}: {decision.candidate}",
            "",
            readable_reason(decision.reason),
            "",
            *(line for note in decision.notes for line in (f"> {note}", "")),
            *_comparison(decision),
            *_anchor(decision.anchor, decision.margin),
            *_fresh(decision.fresh),
            *_hallucinations(decision.hallucinations),
            "| check | candidate | champion | wanted | |",
            "|---|---:|---:|---:|---|",
            *(_row(check) for check in decision.checks),
            "",
            IN_POINTS,
            "",
            *_left_out(decision.left_out),
            *_groups(decision.groups),
            f"Evaluation set: {decision.photos} photos, `{decision.evaluation_set[:12]}`"
            f"{_use(decision.set_use)}. Bootstrap seed {decision.seed}. How the gate decides: docs/gate.md.",
            "",
        ]
    )


def _comparison(decision: GateDecision) -> list[str]:
    if decision.difference is None:
        return []
    return [
        f"CIDEr against {decision.champion}: {_points(decision.difference)}; "
        f"its low end must lie above {-100 * decision.margin:+.1f} (the margin).",
        "",
    ]


def _anchor(anchor: Anchor | None, margin: float) -> list[str]:
    if anchor is None:
        return []
    level = f"{100 * anchor.confidence:g} %"
    return [
        f"CIDEr against the anchor, version {anchor.version}, which did best on this set: "
        f"{_points(anchor.difference, level)}; its low end must lie above {-100 * margin:+.1f}, too.",
        "",
    ]


def _fresh(fresh: Fresh | None) -> list[str]:
    if fresh is None:
        return []
    weight = "" if fresh.decides else "; so few only inform, they do not decide"
    return [
        f"On fresh feedback, held out from training ({fresh.photos} photos{weight}): CIDEr "
        f"{100 * fresh.candidate:.1f} against {100 * fresh.champion:.1f}, {_points(fresh.difference)} "
        "(of a permutation test).",
        "",
    ]


def _hallucinations(found: Hallucinations | None) -> list[str]:
    if found is None:
        return []
    rise = found.difference
    return [
        f"Things per caption that are not there ({_MEASURED_FROM[found.measure]}): {found.candidate:.3f} "
        f"against {found.champion:.3f}, **{rise.value:+.3f}**, 95 % interval {rise.low:+.3f} to "
        f"{rise.high:+.3f}; its low end may not lie above {found.limit:+.3f}.",
        "",
    ]


def _left_out(metrics: tuple[str, ...]) -> list[str]:
    if not metrics:
        return []
    return [f"Not looked at: {', '.join(metrics)}, which is of English only (docs/languages.md).", ""]


def _groups(groups: Sequence[GroupDifference]) -> list[str]:
    if not groups:
        return []
    return [
        "## By kind of photo",
        "",
        "CIDEr x100, with the 95 % interval of each difference. *Surely lost* is the share of the champion's "
        f"CIDEr that is lost at least, the {len(groups)} kinds considered together.",
        "",
        "| | photos | candidate | champion | difference | 95 % interval | surely lost |",
        "|---|---:|---:|---:|---:|---|---:|",
        *(_group(group) for group in groups),
        "",
    ]


def _group(group: GroupDifference) -> str:
    difference = group.difference
    lost = f"{100 * group.worst:.0f} %" if group.worst > 0 else ""
    return (
        f"| {group.by}: {group.name} | {group.photos} | {100 * group.candidate:.1f} "
        f"| {100 * group.champion:.1f} | {100 * difference.value:+.1f} "
        f"| {100 * difference.low:+.1f} to {100 * difference.high:+.1f} | {lost} |"
    )


def _use(use: SetUse | None) -> str:
    return "" if use is None else f", decision {use.decisions} of the {use.budget} that it is good for"


def _points(difference: Difference, level: str = "95 %") -> str:
    return (
        f"**{100 * difference.value:+.1f} points**, {level} interval "
        f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    )


def _row(check: Check) -> str:
    champion = "" if check.champion is None else formatted_value(check.name, check.champion)
    value, limit = (formatted_value(check.name, each) for each in (check.value, check.limit))
    sign = "≥" if check.bound == "at least" else "≤"
    passed = "passed" if check.passed else "**failed**"
    return f"| {check.name} | {value} | {champion} | {sign} {limit} | {passed} |"
