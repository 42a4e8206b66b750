import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from captionloop.commands.admin import keys


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONLOOP_STATE", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(keys, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_key_is_shown_once_and_only_its_hash_is_kept(state: Path) -> None:
    key = run("create", "import").strip()
    secret = key.split("_", 2)[2]
    assert key.startswith("clk_") and secret not in run("list")
    files = [file.read_bytes() for file in state.rglob("*") if file.is_file()]
    assert files and not any(secret.encode() in content for content in files)


def test_a_revoked_key_is_listed_as_revoked() -> None:
    key_id = run("create", "import", "--scope", "admin").split("_")[1]
    assert "valid" in run("list") and "admin" in run("list")
    run("revoke", key_id)
    assert "revoked" in run("list")


def test_an_unknown_key_is_one_line() -> None:
    done = CliRunner().invoke(keys, ["revoke", "000000000000"])
    assert "captionloop keys list" in str(done.exception)


def test_there_are_no_keys_at_first_and_looking_makes_no_database(state: Path) -> None:
    assert "keys create" in run("list")
    assert CliRunner().invoke(keys, ["revoke", "000000000000"]).exit_code == 1
    assert CliRunner().invoke(keys, ["create", " "]).exit_code == 1
    assert list(state.iterdir()) == []


def test_a_rotated_key_has_another_secret_and_the_same_id() -> None:
    before = run("create", "import").strip()
    after = run("rotate", before.split("_")[1]).strip()
    assert before.split("_")[1] == after.split("_")[1] and before != after
    assert len(run("list").splitlines()) == 1
    run("revoke", after.split("_")[1])
    done = CliRunner().invoke(keys, ["rotate", after.split("_")[1]])
    assert "there is no valid key" in str(done.exception)


def test_a_key_ends_when_it_was_said_to(state: Path) -> None:
    del state
    run("create", "for ever")
    run("create", "import", "--expires", "90d")
    forever, ends = run("list").splitlines()
    day = f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}"
    assert f"until {day}" in ends and "valid" in forever
    assert all("never used" in line for line in (forever, ends))


@pytest.mark.parametrize("lifetime", ["90", "0d", "-1d", "1y", "d", "999999w"])
def test_a_lifetime_that_is_none_is_told_with_an_example(state: Path, lifetime: str) -> None:
    done = CliRunner().invoke(keys, ["create", "import", "--expires", lifetime])
    assert done.exit_code == 2 and "90d" in done.output
    assert list(state.iterdir()) == []


def test_what_was_done_stands_in_the_audit_log_without_a_secret(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = run("create", "a name that is nobody's business").strip()
    key_id = key.split("_")[1]
    run("list")
    run("rotate", key_id)
    run("revoke", key_id)
    CliRunner().invoke(keys, ["revoke", "000000000000"])
    lines = [json.loads(line) for line in (state / "audit.log").read_text().splitlines()]
    assert [(line["action"], line["object"], line["outcome"]) for line in lines] == [
        ("keys.create", key_id, "done"), ("keys.rotate", key_id, "done"), ("keys.revoke", key_id, "done"),
        ("keys.revoke", "000000000000", "failed"),
    ]  # fmt: skip
    assert all(line["event"] == "audit" and line["actor"].startswith("user:") for line in lines)
    assert key.split("_", 2)[2] not in str(lines) and "business" not in str(lines)
    monkeypatch.setenv("CAPTIONLOOP_AUDIT_LOG", str(state / "elsewhere" / "deeds.log"))
    run("create", "import")
    assert (state / "elsewhere/deeds.log").read_text().count("\n") == 1 and len(lines) == 4


def test_an_audit_log_that_cannot_be_written_stops_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "file").touch()
    monkeypatch.setenv("CAPTIONLOOP_AUDIT_LOG", str(state / "file" / "audit.log"))
    done = CliRunner().invoke(keys, ["create", "import"])
    assert done.exit_code == 0 and done.stdout.startswith("clk_")
    assert "cannot be written" in done.stderr and '"keys.create"' in done.stderr
