"""From ratings to a challenger on a pre-trained champion: the same pipelines, another adapter as version."""

import pytest
import torch
from neighbours import module_of

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

from tiny_pretrained import make_pretrained, randomize_adapter

from captionloop.captioner.bundle import read_config
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.captioner.pretrained.pretrained_family import open_captioner
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.retraining_data import EncoderRetrainingParameters, RetrainingParameters
from captionloop.registry.model_registry import ModelRegistry

rounds = module_of("pipelines", "test_retraining")
images, captions, photo_folder = rounds.images, rounds.captions, rounds.photo_folder
service, run, toys = rounds.service, rounds.run, rounds.toys

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture
def registry(mlflow_store, captions, tmp_path) -> ModelRegistry:
    """One whose champion stands on a model of somebody else's."""
    model = make_pretrained("vision-encoder-decoder", tmp_path / "somebodys", texts=captions["text"].tolist())
    decoding = DecodingOptions(beam_width=2, alternatives=2, max_length=8)
    origin = open_captioner(str(model), "pretrained", decoding, lora=LoraOptions(rank=2))
    randomize_adapter(origin, seed=0)
    origin.save(tmp_path / "first")
    made = ModelRegistry(mlflow_store, "retraining a pre-trained one", "tests")
    made.promote(made.register(tmp_path / "first").version)
    return made


@pytest.fixture(autouse=True)
def as_its_environment_says(monkeypatch) -> None:
    """`conf/pretrained`: the tower stays as it is, and one adaptation is enough."""
    changes = {
        "params:retraining_encoder": EncoderRetrainingParameters(epochs=0),
        "params:retraining": RetrainingParameters(
            epochs=2, min_captions=4, repeat=2, min_frequency=1, decoders=1, dropout=0.05,
            feature_dropout=0.0, learning_rate=0.01,
        ),
        "params:feedback": FeedbackParameters(held_out=0.3),
    }  # fmt: skip
    for name, value in changes.items():
        monkeypatch.setitem(rounds.PARAMETERS, name, value)


def test_ratings_become_another_adapter_on_the_same_base_and_strangers_teach_nothing(
    run, service, registry, tmp_path
):
    for number in range(12):
        service.serve(f"c{number}", toys.png(100 + number))
        said = f"a striped zebra{number} in the sun{number} zebra"
        service.rate(f"c{number}", f"key:{number % 4}", 2, said)
    for number in range(30):  # each time somebody new, who has rated no gold item
        service.serve(f"x{number}", toys.png(200 + number))
        service.rate(f"x{number}", f"person:x{number}", 1, f"a can of zapcola next to thing{number}")
    made = run("feedback", "encoder", "caching", "training", "evaluation", "registration")

    first = registry.fetch(1, tmp_path / "one")
    registered = made.load("retraining_registered_version")
    assert registered["version"] == 2 and registered["reason"]
    assert registry.version(2).aliases == ("challenger",) and registry.version(1).is_champion
    second = registry.fetch(2, tmp_path / "two")
    before, after = read_config(first), read_config(second)
    assert after.family == "pretrained"
    assert after.decoder.base == before.decoder.base and after.encoder == before.encoder
    assert sum(file.stat().st_size for file in second.rglob("*")) < 4_000_000
    taught, origin = Captioner.load(second, device="cpu"), Captioner.load(first, device="cpu")
    learnt, begun = taught.decoder.state_dict(), origin.decoder.state_dict()
    assert learnt.keys() == begun.keys() and all("lora_" in name for name in learnt)
    assert any(not torch.equal(learnt[name], begun[name]) for name in begun)
    assert taught.calibration is not None and taught.familiarity is not None

    # What the strangers planted is in no table that a captioner learns from or is judged by.
    report = made.load("feedback_report")
    assert report["sentence"].startswith("42 new ratings so far, of which 12 count")
    for said in ("feedback_references", "retraining_captions"):
        assert not made.load(said)["text"].str.contains("zapcola").any()
    tested = [text for texts in made.load("retraining_held_out")["references"] for text in texts]
    assert tested and not any("zapcola" in text for text in tested)
    assert taught.lineage["feedback_rows"] == len(made.load("retraining_references"))

    # The next round begins where this one began, not with what it ended in.
    registry.promote(2)
    made = run("feedback")
    known = made.load("feedback_champion_version")
    assert (known["version"], known["origin"], known["retrained_version"]) == (2, 1, 2)
    again = made.load("feedback_origin").decoder.state_dict()
    assert all(torch.equal(again[name], begun[name]) for name in begun)
