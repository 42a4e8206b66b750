from pathlib import Path

import pytest
from click.testing import CliRunner

from captionloop.commands.keys import keys


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
