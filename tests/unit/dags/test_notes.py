"""What stands on a run for people to read: nothing that is not so at that moment."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "dags"))
from captionloop_dags.notes import LONGEST_NOTE, run_note, running_note, skipped_note

FEEDBACK = {
    "enough": True, "sentence": "97 new ratings so far, 50 needed", "page": "data/docs/index.html",
    "believed": "97 new, 24 not believed: faster than a person can look, 17 corrections used",
}  # fmt: skip
FEW = {
    "enough": False,
    "sentence": "12 new ratings so far, 50 needed",
    "believed": "12 new, 0 corrections used",
}
PASSED = {
    "version": 5, "passed": True, "page": "gate.md", "mlflow_page": "/#/runs/1",
    "reason": "Promoted: CIDEr is better than that of version 1 (difference +0.012, 95 % interval +0.001)",
    "verdict": "CIDEr is better than that of version 1 (difference +1.2, 95 % interval +0.1 to +2.0)",
}  # fmt: skip
REFUSED = {**PASSED, "passed": False, "verdict": "CIDEr is worse than that of version 1"}


def test_a_run_that_goes_on_says_so() -> None:
    note = running_note("learning from people's ratings", feedback=FEEDBACK)
    assert note.startswith("**Running: learning from people's ratings**")
    assert "No new version" not in note and FEEDBACK["believed"] in note and FEEDBACK["sentence"] in note


def test_nothing_is_said_to_be_promoted_before_it_is_and_after_it_was_taken_back() -> None:
    waiting = running_note("version 5 passed the gate and waits for a person's approval", registered=PASSED)
    reason = "Version 5 does not pass: 3 of 20 captions are empty"
    back = run_note(
        feedback=FEEDBACK, registered=PASSED, failed=["verify"], reasons={"verify": reason}, rolled_back=True
    )
    for note in (
        waiting,
        back,
        run_note(registered=PASSED, dry_run=True),
        run_note(registered=PASSED, rejected=True),
    ):
        assert "romoted: " not in note and "+0.012" not in note, "one scale of CIDEr: points"
        assert PASSED["verdict"] in note
    assert back.startswith("**verify failed: the version before is served again**")
    assert f"- verify: {reason}" in back


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"feedback": FEW}, "No new version: too few new ratings"),
        ({"feedback": FEEDBACK, "failed": ["training"]}, "training failed"),
        ({"registered": REFUSED}, "Version 5 was refused by the gate"),
        ({"registered": PASSED, "dry_run": True}, "Version 5 passed the gate; dry run, nothing promoted"),
        ({"registered": PASSED, "rejected": True}, "Version 5 passed the gate and was rejected by a person"),
        ({"registered": PASSED, "deployed": True}, "Version 5 is served"),
        (
            {"registered": PASSED, "not_preferred": True},
            "Version 5 passed the gate, and people's ratings did not prefer it",
        ),
        ({"registered": PASSED}, "Version 5 passed the gate, and is not served"),
    ],
)
def test_a_run_that_ended_says_how(given: dict, said: str) -> None:
    assert run_note(**given).splitlines()[0] == f"**{said}**"


def test_too_few_ratings_are_told_at_once() -> None:
    assert skipped_note(FEW).splitlines()[0] == "**No new version: too few new ratings**"


def test_a_long_note_ends_with_a_whole_line() -> None:
    reasons = {f"caching_{n}": "x" * 400 for n in range(6)}
    note = run_note(feedback=FEEDBACK, registered=PASSED, failed=list(reasons), reasons=reasons)
    assert len(note) <= LONGEST_NOTE and note.splitlines()[-1].startswith("- caching_")
    assert run_note(failed=["verify"]).endswith("- verify: its log says why")
