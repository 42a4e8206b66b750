"""A corpus in another language is learnt as well as the English one: the same scenes, described otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import ROOT

from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.scoring.scores import score

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SMALL = {
    "sample_scenes.train": 300,
    "sample_scenes.val": 30,
    "sample_scenes.test": 80,
    "sample_scenes.side": 64,
    "encoder.input_size": 64,
    "encoder_adaptation.epochs": 6,
    "encoder_adaptation.concepts.minimum_images": 10,
    "models.show_attend_tell.epochs": 8,
}


def learnt(workspace: Path, language: str) -> dict[str, float]:
    """The metrics of `show_attend_tell`, taught on a few hundred scenes in a language."""
    place = {"workspace": workspace, "tracking_uri": f"sqlite:///{workspace}/mlflow.db", "language": language}
    given = ",".join(f"{name}={value}" for name, value in (place | SMALL).items())
    command = [
        sys.executable,
        "-m",
        "kedro",
        "run",
        "--to-nodes",
        "evaluation.show_attend_tell.predict_captions",
    ]
    done = subprocess.run(
        [*command, "--params", given],
        cwd=ROOT,
        env={**os.environ, "KEDRO_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    output = workspace / "07_model_output/sample_scenes/show_attend_tell"
    predictions = json.loads((output / "hypotheses.json").read_text())
    photos = EvaluationSet.model_validate_json(
        (workspace / "05_model_input/sample_scenes/evaluation_photos.json").read_text()
    )
    assert photos.language == language
    captions = {image_id: one["caption"] for image_id, one in predictions["default"].items()}
    values = score(captions, photos.references, photos.reference_language).values
    print(language, values, next(iter(captions.values())))
    return values


@pytest.mark.parametrize("language", ["fr", "zh"])
def test_another_language_is_learnt_as_well_as_english(tmp_path_factory, english, language):
    values = learnt(tmp_path_factory.mktemp(language), language)
    ratio = values["CIDEr"] / english["CIDEr"]
    assert ratio >= 0.75
    # Characters of one word come together, so that CIDEr over characters is higher: 1.58 times when measured.
    assert ratio <= (1.25 if language == "fr" else 2.0)
    assert "METEOR" not in values


@pytest.fixture(scope="module")
def english(tmp_path_factory) -> dict[str, float]:
    return learnt(tmp_path_factory.mktemp("english"), "en")
