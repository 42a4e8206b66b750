"""Runs a project after one change and then another, and finds out which nodes each run had to run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from small_project import TINY

SCENES = ("data/01_raw/sample_scenes/captions.json", "data/01_raw/sample_scenes/photos")


class Project:
    """The project, its settings of this moment, and how it is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = "base"
        self.parameters: dict[str, object] = {
            "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "workspace": "data",
            **TINY,
        }

    def set(self, name: str, value: object) -> None:
        """As `--params name=value`."""
        self.parameters[name] = value

    def run(self) -> list[str]:
        """`kedro run --only-missing-outputs`; the nodes that ran."""
        given = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        command = [sys.executable, "-m", "kedro", "run", "--only-missing-outputs", "--env", self.env]
        places = (self.folder / "src", self.folder / "versions")  # the copy's code, not the checkout's
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "KEDRO_DISABLE_TELEMETRY": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "COLUMNS": "400",  # one line of the log is one message
        }
        done = subprocess.run(
            [*command, "--params", given],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return re.findall(r"Completed node: (\S+)", done.stdout)

    def edit(self, module: str, old: str, new: str) -> None:
        path = self.folder / "src/captionloop" / module
        text = path.read_text()
        assert old in text, (module, old)
        path.write_text(text.replace(old, new, 1))

    def add_caption(self, split: str) -> None:
        path = self.folder / SCENES[0]
        document = json.loads(path.read_text())
        image = next(each for each in document["images"] if each["split"] == split)
        image["sentences"].append(
            {**image["sentences"][0], "raw": "a small thing stands there", "sentid": 99_999}
        )
        path.write_text(json.dumps(document))

    def replace_photo(self, split: str) -> None:
        from PIL import Image, ImageOps

        images = json.loads((self.folder / SCENES[0]).read_text())["images"]
        name = next(each["filename"] for each in images if each["split"] == split)
        path = self.folder / SCENES[1] / name
        with Image.open(path) as photo:
            ImageOps.solarize(photo.convert("RGB")).save(path)

    def give_weights(self, seed: int) -> None:
        from captionloop.vision.encoder import Encoder, EncoderSpec

        spec = EncoderSpec(architecture="resnet10", input_size=64, layer="layer3")
        Encoder.build(spec, seed=seed).save(self.folder / "weights")
        self.parameters["weights"] = str(self.folder / "weights/encoder.safetensors")

    def other_version(self, package: str) -> None:
        """As if another version of a package had been installed."""
        about = self.folder / "versions" / f"{package}-99.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")

    def move(self) -> None:
        (self.folder / "data").rename(self.folder / "elsewhere")
        self.parameters["workspace"] = "elsewhere"


AGAIN = "nothing, once more"

CHANGES: dict[str, Callable[[Project], object]] = {
    "nothing": lambda project: None,
    "a caption of a test photo added to the captions file": lambda project: project.add_caption("test"),
    "a test photo replaced by another of the same name": lambda project: project.replace_photo("test"),
    "a caption of a training photo added": lambda project: project.add_caption("train"),
    "a training photo replaced": lambda project: project.replace_photo("train"),
    "the weights that the encoder starts from": lambda project: project.give_weights(1),
    "another file of weights at the same path": lambda project: project.give_weights(2),
    "`models.show_attend_tell.learning_rate`": lambda project: project.set(
        "models.show_attend_tell.learning_rate", 0.001
    ),
    # So large a step that its captions change, whatever the processor.
    "`models.show_and_tell.learning_rate`": lambda project: project.set(
        "models.show_and_tell.learning_rate", 0.01
    ),
    "`evaluation.resamples`": lambda project: project.set("evaluation.resamples", 500),
    "`evaluation.batch_size`, `feature_caching.device`": lambda project: (
        project.set("evaluation.batch_size", 16),
        project.set("feature_caching.device", "cpu"),
    ),
    "`registration.gate.margin`": lambda project: project.set("registration.gate.margin", 0.5),
    "the environment (`--env`; its gallery shows fewer photos)": lambda project: setattr(
        project, "env", "short"
    ),
    "`save_args` of a picture in the catalog": lambda project: (
        project.folder / "conf/short/catalog_evaluation.yml"
    ).write_text(
        "reliability:\n  type: captionloop.datasets.AtomicFigureDataset\n"
        "  filepath: ${runtime_params:workspace}/08_reporting/${globals:corpus}/reliability.png\n"
        "  save_args: {dpi: 90}\n"
    ),
    "code that scores captions (`scoring/cider.py`)": lambda project: project.edit(
        "scoring/cider.py", "if not predictions:", "if not len(predictions):"
    ),
    "code of the gallery (`evaluation/gallery.py`)": lambda project: project.edit(
        "evaluation/gallery.py", "fontsize=12.5", "fontsize=12"
    ),
    "a comment or a docstring of the code that trains": lambda project: project.edit(
        "training/train_captioner.py", '"""Trains captioners', '"""How captioners are trained,'
    ),
    "another version of Matplotlib": lambda project: project.other_version("matplotlib"),
    "another version of Lightning": lambda project: project.other_version("lightning"),
    "an output deleted (`gallery.png`)": lambda project: (
        project.folder / "data/08_reporting/sample_scenes/gallery.png"
    ).unlink(),
    "an output changed by hand (`evaluation.json`)": lambda project: (
        project.folder / "data/08_reporting/sample_scenes/evaluation.json"
    ).write_text("{}"),
    "the folder of the data moved": lambda project: project.move(),
}


def what_ran(folder: Path) -> dict[str, list[str]]:
    """The nodes that ran after each change, in a copy of the project with its code in `folder`."""
    project = Project(folder)
    project.run()
    ran = {}
    for name, change in CHANGES.items():
        change(project)
        ran[name] = project.run()
    ran[AGAIN] = project.run()
    return ran
