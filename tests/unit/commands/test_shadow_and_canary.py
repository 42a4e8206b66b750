"""What `captionloop models shadow` and `canary` say of a version that is tried, and with which exit code."""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from captionloop.commands.models import sentence
from captionloop.commands.shadow_and_canary import (
    GOOD,
    NOT_YET,
    NOTHING_SHOWN,
    WORSE,
    assess_shadow,
    canary,
    shadow,
)
from captionloop.registry.history import HistoryEntry
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.trials import Plan, Trial
from captionloop.serving.schemas import TrialBody

BEGAN = datetime(2026, 11, 22, 8, tzinfo=UTC)
TRIAL = Trial(
    ModelVersion("captioner", 5, "f", BEGAN, "", "", aliases=("shadow",)),
    Plan(role="shadow", share=0.2, champion=4, began=BEGAN, most=100, days=1),
    is_void=False,
)


def trial_body(captioned: int = 0, failed: int = 0, *, ready: bool = True, **more) -> TrialBody:
    given = {"role": "shadow", "version": "5", "share": 0.2, **more}
    return TrialBody(ready=ready, captioned=captioned, failed=failed, **given)


@pytest.mark.parametrize(
    ("servers", "minutes", "code", "said"),
    [
        (
            [trial_body(60, agreed=50), trial_body(40, agreed=30)],
            5,
            GOOD,
            "100 photos captioned, 80 as by the champion",
        ),
        (
            [trial_body(60), trial_body(39, 2)],
            5,
            NOT_YET,
            "99 photos captioned, 0 as by the champion, 2 failed",
        ),
        ([trial_body(97, 3)], 5, WORSE, "fails: 97 photos captioned"),
        ([trial_body(ready=False, reason="damaged")], 11, WORSE, "runs on no model server: damaged"),
        ([trial_body(ready=False, reason="damaged")], 9, NOT_YET, "0 photos captioned"),
        ([], 11, WORSE, "runs on no model server: none tells of it"),
        ([trial_body(100, role="canary"), trial_body(100, version="6")], 5, NOT_YET, "0 photos captioned"),
        ([trial_body(12, dropped=7)], 24 * 60, NOTHING_SHOWN, "7 left out, of 100 that were planned"),
    ],
)
def test_a_shadow_does_well_fails_or_needs_more_photos(servers, minutes, code, said) -> None:
    found, words = assess_shadow(TRIAL, servers, BEGAN + timedelta(minutes=minutes))
    assert found == code and said in words and words.startswith("Version 5 as a shadow")


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (canary, ["5", "--share", "0.6"], "0.6 is not in the range"),
        (canary, ["5", "--share", "0"], "0.0 is not in the range"),
        (shadow, ["5", "--share", "1.5"], "1.5 is not in the range"),
        (canary, [], "Which VERSION shall be the canary?"),
    ],
)
def test_what_makes_no_sense_is_told(command, arguments, said) -> None:
    found = CliRunner().invoke(command, arguments)
    assert found.exit_code == 2 and said in found.output


def test_the_history_tells_of_beginnings_and_ends() -> None:
    began = HistoryEntry(action="canary", version=5, at=BEGAN, by="ann", evidence={"share": 0.5, "beside": 4})
    assert sentence(began).endswith("version 5 began as a canary by ann [share 0.5, beside 4]")
    ended = HistoryEntry(
        action="end", version=5, at=BEGAN, outcome="worse", why="-0.4 stars", evidence={"role": "canary"}
    )
    assert "version 5 ended as a canary: worse: -0.4 stars" in sentence(ended)
