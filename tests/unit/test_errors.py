import pytest

from captionloop.errors import reason_of, without_passwords


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://u:hunter2@db/x", "postgresql://u:***@db/x"),
        ("redis://:hunter2@cache:6379 is away", "redis://:***@cache:6379 is away"),
        ("postgresql://u:p@ss/word@db/x", "postgresql://u:***@db/x"),
        ("host=db password=hunter2 user=u", "host=db password=*** user=u"),
        ("postgresql://db/x?user=u&password=hunter2&sslmode=require",
         "postgresql://db/x?user=u&password=***&sslmode=require"),
        ("http://db:5432/x", "http://db:5432/x"),
        ("a = b", "a = b"),
    ],
)  # fmt: skip
def test_passwords_in_addresses_are_not_shown(text: str, redacted: str) -> None:
    assert without_passwords(text) == redacted


def test_a_reason_quotes_nothing() -> None:
    assert reason_of(KeyError("hunter2")) == "KeyError"
    assert (
        reason_of(FileNotFoundError(2, "hunter2", "hunter2"))
        == "FileNotFoundError: No such file or directory"
    )
