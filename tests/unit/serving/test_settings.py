from pathlib import Path

import pytest

from captionloop.errors import ConfigurationError
from captionloop.serving.service_settings import PREFIX, Settings, describe_settings


def test_variables_set_the_settings() -> None:
    settings = Settings.from_environment(
        {"CAPTIONLOOP_MAX_BODY_BYTES": "5", "CAPTIONLOOP_ANONYMOUS": "false"}
    )
    assert settings.max_body_bytes == 5 and settings.anonymous is False


def test_an_empty_variable_is_not_set() -> None:
    assert Settings.from_environment({"CAPTIONLOOP_MAX_BATCH": ""}).max_batch == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_BODY_BYTES", "0"), ("MAX_BATCH", "many"), ("ANONYMOUS", "perhaps"), ("LOG_LEVEL", "LOUD")],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"CAPTIONLOOP_{name}='{value}'") as raised:
        Settings.from_environment({PREFIX + name: value})
    assert "\n" not in str(raised.value)


def test_the_embedded_database_lies_in_the_state_folder(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/ratings.db" and settings.embedded_database
    assert not Settings(database="postgresql://host/db").embedded_database


def test_every_setting_is_documented(project_root: Path) -> None:
    page = (project_root / "docs/how-to/serve.md").read_text()
    assert describe_settings() in page
