"""`captionloop models history`, and what `rollback --after-verify` takes from it."""

from datetime import UTC, datetime

from captionloop.commands.models import last_verification, sentence
from captionloop.registry.history import HistoryEntry

AT = datetime(2026, 11, 22, 8, 4, 31, tzinfo=UTC)


def line(action: str, version: int = 4, **more) -> HistoryEntry:
    return HistoryEntry.model_validate(
        {"action": action, "version": version, "at": AT, "by": "user:ann@host", **more}
    )


def test_a_line_says_who_when_and_why() -> None:
    promoted = line("promote", champion=4, before=3, why="Promoted: no worse.")
    text = "2026-11-22 08:04:31  version 4 was promoted in the place of version 3 by user:ann@host"
    assert sentence(promoted) == f"{text}: Promoted: no worse."
    back = line("rollback", champion=3, before=4)
    assert "version 4 was rolled back, version 3 is champion again by" in sentence(back)
    verified = line("verify", outcome="passed", evidence={"asked": 32, "failed": 0})
    assert sentence(verified).endswith("passed the verification by user:ann@host [asked 32, failed 0]")
    assert "was not verified by" in sentence(line("verify", outcome="not verified"))
    assert sentence(line("found", served=(1, 3), at=None)).startswith("some time before")


def test_only_a_verification_since_the_last_promotion_counts() -> None:
    failed, away = line("verify", outcome="failed"), line("verify", outcome="not verified")
    assert last_verification([line("promote"), failed], 4) == failed
    assert last_verification([line("promote"), failed, line("promote")], 4) is None
    assert last_verification([line("promote"), failed, line("promote"), away], 4) == away
    assert last_verification([line("promote"), failed], 3) is None
