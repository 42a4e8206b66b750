"""A path means the same wherever it was written, and what cannot be meant is told in one line."""

import os
import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from captionloop import config, paths
from captionloop.commands.model_lookup import bundle_folder
from captionloop.commands.option_types import WrittenPath
from captionloop.config import read_configuration
from captionloop.errors import ConfigurationError
from captionloop.paths import expanded, expanded_everywhere, make_room_for_sockets
from captionloop.serving.service_settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "at home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PHOTOS_AT", str(folder / "photos"))
    return folder


@pytest.mark.parametrize(
    ("written", "leads"),
    [
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("$HOME/x", "{home}/x"),
        ("${PHOTOS_AT}/2026", "{home}/photos/2026"),
        ("sqlite:///~/mlflow.db", "sqlite:///{home}/mlflow.db"),
        ("file://~/photos", "file://{home}/photos"),
        ("~root/x", f"{Path('~root').expanduser()}/x"),
        # These begin with none of it, and stay.
        *((text, text) for text in ("", "x", "./~", "./~/x", "a~b", "/tmp/$HOME", "s3://bucket/~/x")),
        *((text, text) for text in ("postgresql://me:~pass@host/db", "$", "$HOME", "~ 5 photos", "100%")),
    ],
)
def test_a_path_leads_where_a_shell_would_go(home: Path, written: str, leads: str) -> None:
    assert expanded(written) == leads.format(home=home)


@pytest.mark.parametrize(
    "written", ["~nobody-of-this-name/x", "$NOT_SET_ANYWHERE/x", "${NOT_SET_ANYWHERE}/x"]
)
def test_a_path_that_leads_nowhere_is_told(written: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be spelled out: .* write the whole path"):
        expanded(written)


def test_what_is_no_text_stays() -> None:
    assert expanded_everywhere({"a": [1, None, {"b": True}]}) == {"a": [1, None, {"b": True}]}


def test_parameters_files_variables_and_options_agree(
    home: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`workspace=~/x` made a folder `./~`."""
    read = read_configuration(
        project_root, parameters={"workspace": "~/x", "tracking_uri": "sqlite:///~/m.db"}
    )
    assert read["catalog"]["images"]["filepath"].startswith(f"{home}/x/02_intermediate")
    assert read["mlflow"]["server"]["mlflow_tracking_uri"] == f"sqlite:///{home}/m.db"

    conf = tmp_path / "project/conf/base"
    conf.mkdir(parents=True)
    (conf / "globals.yml").write_text("workspace: ~/x\n")
    (conf / "parameters.yml").write_text("kept: {in: [~/y]}\n")
    own = read_configuration(tmp_path / "project")
    assert own["globals"]["workspace"] == f"{home}/x"
    assert own["parameters"]["kept"]["in"] == [f"{home}/y"]

    settings = Settings.from_environment(
        {"CAPTIONLOOP_STATE": "~/state", "CAPTIONLOOP_PHOTOS": "$HOME/p", "CAPTIONLOOP_PAGE": "~/page"}
    )
    assert settings.state == home / "state"
    assert settings.photo_root == f"{home}/p"
    assert settings.page == home / "page"

    (home / "project").mkdir()
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", "~/project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~/of-variable.db")
    assert config.project_folder() == home / "project"
    assert paths.environment_tracking_uri() == f"sqlite:///{home}/of-variable.db"
    assert bundle_folder(tmp_path, "~/bundle")[0] == home / "bundle"

    @click.command()
    @click.option("--output", type=WrittenPath(path_type=Path))
    def command(output: Path) -> None:
        click.echo(output)

    assert CliRunner().invoke(command, ["--output=~/x"]).output.strip() == f"{home}/x"


def test_a_wrong_path_in_a_setting_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such user"):
        Settings.from_environment({"CAPTIONLOOP_STATE": "~nobody-of-this-name/state"})


def test_a_state_without_a_home_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has neither a name nor a HOME."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="set HOME, or CAPTIONLOOP_STATE"):
        Settings.from_environment({})


@pytest.mark.parametrize("name", ["x" * 115, "ü" * 40])
def test_sockets_have_room_whatever_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The limit counts bytes: 40 umlauts are 80."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    make_room_for_sockets()
    made = tempfile.mkdtemp(prefix="bentoml-uds-")
    Path(made).rmdir()
    assert len(os.fsencode(f"{made}/{2**48}.sock")) < 103
    assert os.environ["TMPDIR"] == tempfile.gettempdir() != str(folder)


def test_a_short_tmpdir_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/short")
    make_room_for_sockets()
    assert tempfile.gettempdir() == "/tmp/short"


def test_without_any_short_folder_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 115)
    monkeypatch.setattr(paths.os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="set TMPDIR to a folder of at most 60 bytes"):
        make_room_for_sockets()


@pytest.mark.parametrize("name", ["what?", "100%25 sure", "a%20b"])
def test_a_place_that_no_address_can_name_is_told(tmp_path: Path, name: str) -> None:
    """SQLAlchemy and MLflow would make, and look for, a file elsewhere."""
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match="rename it, or set MLFLOW_TRACKING_URI"):
        paths.anchored("sqlite:///mlflow.db", tmp_path / name)
    assert paths.anchored("postgresql://db/mlflow?sslmode=require", tmp_path).endswith("?sslmode=require")


def test_other_odd_places_hold_both_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db.utils import create_sqlalchemy_engine

    from captionloop.ratings.rating_store import open_store

    folder = tmp_path / "Jürgens Projekt (1) #2 100%"
    folder.mkdir()
    settings = Settings(state=folder / "state")
    open_store(settings.database_url, is_embedded=settings.embedded_database).close()
    engine = create_sqlalchemy_engine(paths.anchored("sqlite:///mlflow.db", folder))
    engine.connect().close()
    engine.dispose()
    assert (folder / "state/ratings.db").is_file() and (folder / "mlflow.db").is_file()
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]
