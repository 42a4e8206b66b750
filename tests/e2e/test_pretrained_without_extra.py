"""Without the extra, whatever asks for a pre-trained captioner is refused in a line that names the extra."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import free_port, photo
from small_project import BIN, SmallProject

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from tiny_pretrained import make_pretrained

from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.captioner.pretrained.pretrained_family import open_captioner

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# An environment that lacks the packages of the extra. Found by every Python process at its start.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

ABSENT = {"transformers", "peft"}


class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in ABSENT
        return None if absent else PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        return iter(()) if context.name in ABSENT else PathFinder.find_distributions(context)


sys.meta_path[:] = [Present if each is PathFinder else each for each in sys.meta_path]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project whose champion is a pre-trained captioner, in an environment without the extra."""
    made = SmallProject(tmp_path_factory.mktemp("project") / "project")
    model = make_pretrained("blip", made.folder / "somebodys")
    decoding = DecodingOptions(beam_width=2, alternatives=2, max_length=6)
    open_captioner(str(model), "theirs", decoding, lora=LoraOptions(rank=2)).save(made.folder / "theirs")
    made.registry.promote(made.registry.register(made.folder / "theirs").version)
    (made.folder / "photo.jpg").write_bytes(photo(1))
    (made.folder / "without").mkdir()
    (made.folder / "without/sitecustomize.py").write_text(WITHOUT)
    return made


DOORS = {
    "run": ("kedro", "run", "--env", "pretrained", "--nodes", "pretrained.open_captioner",
            "--params", "captioner=somebodys"),
    "caption": ("captionloop", "caption", "photo.jpg", "--model", "./theirs"),
    "serve": ("captionloop", "serve"),
    "doctor": ("captionloop", "doctor"),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_one_line_names_the_extra(door: str, project: SmallProject) -> None:
    command, *arguments = DOORS[door]
    arguments += ["--port", str(free_port())] if door == "serve" else []
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")}
    done = subprocess.run(
        [str(BIN / command), *arguments],
        cwd=project.folder,
        env={**inherited, "PYTHONPATH": str(project.folder / "without"), "KEDRO_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert "Traceback" not in output
    assert "install captionloop[transformers]" in " ".join(output.split()), output
