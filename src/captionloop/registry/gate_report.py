"""The gate's decision as a page that a person reads."""

from captionloop.registry.gate import Check, Fresh, GateDecision
from captionloop.registry.verdict import IN_POINTS, shown, verdict


def gate_report(decision: GateDecision) -> str:
    """Markdown: the verdict, the comparison, and a table of everything that was looked at."""
    return "\n".join(
        [
            f"# {'Passed' if decision.promoted else 'Not passed'}: {decision.candidate}",
            "",
            verdict(decision.reason),
            "",
            *_comparison(decision),
            *_fresh(decision.fresh),
            "| check | candidate | champion | wanted | |",
            "|---|---:|---:|---:|---|",
            *(_row(check) for check in decision.checks),
            "",
            IN_POINTS,
            "",
            *_left_out(decision.left_out),
            f"Evaluation set: {decision.photos} photos, `{decision.evaluation_set[:12]}`. "
            f"Bootstrap seed {decision.seed}. How the gate decides: docs/gate.md.",
            "",
        ]
    )


def _comparison(decision: GateDecision) -> list[str]:
    difference = decision.difference
    if difference is None:
        return []
    return [
        f"CIDEr against {decision.champion}: **{100 * difference.value:+.1f} points**, 95 % interval "
        f""
        f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}; "
        f"its low end must lie above {-100 * decision.margin:+.1f} (the margin).",
        "",
    ]


def _fresh(fresh: Fresh | None) -> list[str]:
    if fresh is None:
        return []
    difference = fresh.difference
    weight = "" if fresh.decides else "; so few only inform, they do not decide"
    return [
        f"On fresh feedback, held out from training ({fresh.photos} photos{weight}): CIDEr "
        f"{100 * fresh.candidate:.1f} against {100 * fresh.champion:.1f}, "
        f"**{100 * difference.value:+.1f} points**, 95 % interval "
        f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}.",
        "",
    ]


def _left_out(metrics: tuple[str, ...]) -> list[str]:
    if not metrics:
        return []
    return [f"Not looked at: {', '.join(metrics)}, which is of English only (docs/languages.md).", ""]


def _row(check: Check) -> str:
    champion = "" if check.champion is None else shown(check.name, check.champion)
    value, limit = (shown(check.name, each) for each in (check.value, check.limit))
    sign = "≥" if check.bound == "at least" else "≤"
    passed = "passed" if check.passed else "**failed**"
    return f"| {check.name} | {value} | {champion} | {sign} {limit} | {passed} |"
