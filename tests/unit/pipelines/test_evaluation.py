import json
from functools import partial

import pandas as pd
import pytest
from captionloop.pipelines.evaluation import create_pipeline
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from neighbours import module_of

from captionloop.datasets.atomic_datasets import AtomicFigureDataset, AtomicJSONDataset, AtomicTextDataset
from captionloop.evaluation.evaluation_set import EvaluationParameters, LatencyParameters
from captionloop.scoring import java_metrics

pytestmark = pytest.mark.integration

MODELS = ("show_and_tell", "show_attend_tell")
FIGURES = ("gallery", "training_curves", "reliability", "quality_and_latency")
CURVES = pd.DataFrame(
    [
        {"epoch": epoch, "train_loss": 4 - epoch / 3, "val_loss": 4 - epoch / 5, "val_cider": epoch / 10}
        for epoch in range(1, 5)
    ]
)


toys = module_of("evaluation")
images, captions, encoder, features = toys.images, toys.captions, toys.encoder, toys.features
make_captioner, photo_folder = toys.make_captioner, toys.photo_folder
paraphrases = module_of("scoring").paraphrases


@pytest.fixture(scope="module")
def run(paraphrases, images, captions, features, photo_folder, make_captioner):
    """Runs the pipeline, or the part that makes `wanted`, and gives what it wrote by name."""

    def run(folder, wanted=(), split="val"):
        parameters = EvaluationParameters(
            split=split, resamples=200, latency=LatencyParameters(photos=2, batch=2, batches=1)
        )
        given = {
            "images": images,
            "captions": captions,
            "features": features,
            "raw_photos": photo_folder,
            "params:evaluation": parameters,
            "params:language": "en",
            **{f"{model}.captioner": make_captioner(model) for model in MODELS},
            **{f"{model}.curves": CURVES for model in MODELS},
        }
        kept = ("evaluation", "show_attend_tell.calibration")
        catalog = DataCatalog(
            {name: MemoryDataset(value, copy_mode="assign") for name, value in given.items()}
            | {name: AtomicFigureDataset(filepath=str(folder / f"{name}.png")) for name in FIGURES}
            | {name: AtomicJSONDataset(filepath=str(folder / f"{name}.json")) for name in kept}
            | {"evaluation_table": AtomicTextDataset(filepath=str(folder / "evaluation.md"))}
        )
        pipeline = create_pipeline(models=MODELS, exhibited="show_attend_tell", with_curves=MODELS)
        pipeline = pipeline.to_outputs(*wanted) if wanted else pipeline
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(java_metrics, "Meteor", partial(java_metrics.Meteor, paraphrases=paraphrases))
            SequentialRunner().run(pipeline, catalog)
        names = [name for name in pipeline.all_outputs() if name not in FIGURES]
        read = {*kept, "evaluation_table", *pipeline.outputs()}
        return {name: catalog.load(name) for name in names if name in read}

    return run


@pytest.fixture(scope="module")
def outputs(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reporting")
    return {**run(folder), "folder": folder}


def test_the_whole_pipeline_runs_and_reports_every_model(outputs):
    report = outputs["evaluation"]
    assert (report["split"], report["photos"]) == ("val", 5)
    assert set(report["models"]) == {system for m in MODELS for system in (m, f"{m}.greedy")}
    json.dumps(report)


def test_the_latest_report_is_the_report(outputs):
    assert outputs["latest_evaluation"] == outputs["evaluation"]
    assert outputs["latest_evaluation_table"] == outputs["evaluation_table"]
    assert outputs["evaluation_table"].startswith("# Evaluation on `val` (5 photos)")


def test_every_figure_is_drawn(outputs):
    for name in FIGURES:
        assert (outputs["folder"] / f"{name}.png").stat().st_size > 8000, name


def test_every_model_gets_a_card_that_names_its_facts(outputs):
    card = outputs["show_attend_tell.model_card"]
    assert "3 photos of `corpus` with 6 captions" in card
    assert "`abc`" in card
    assert "| CIDEr |" in card


def test_scores_and_calibration_are_the_same_again(outputs, run, tmp_path):
    again = run(tmp_path, wanted=["evaluation", "show_attend_tell.calibration"])
    assert json.dumps(again["evaluation"]) == json.dumps(outputs["evaluation"])
    assert again["show_attend_tell.calibration"] == outputs["show_attend_tell.calibration"]


def test_another_split_is_calibrated_on_val(run, tmp_path):
    found = run(tmp_path, wanted=["show_attend_tell.calibration"], split="train")
    assert (
        found["show_attend_tell.calibration"]["split"],
        found["show_attend_tell.calibration"]["photos"],
    ) == ("val", 5)
