import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from captionloop.pipelines.ensemble import create_pipeline
from captionloop.pipelines.ensemble.nodes import teach_together
from captionloop.pipelines.training.nodes import teach_by_reward, teach_by_words
from pydantic import ValidationError

from captionloop.captioner.parameters import EnsembleParameters, SelfCriticalParameters
from captionloop.errors import ConfigurationError
from captionloop.vision.encoder import Encoder, EncoderSpec


def corpus_for_tests():
    path = Path(__file__).parents[1] / "captioner" / "corpus_for_tests.py"
    spec = importlib.util.spec_from_file_location("captioning_corpus", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def toys():
    return corpus_for_tests()


@pytest.fixture(scope="module")
def material(toys, tmp_path_factory):
    """What the node is given, with a first member taught as in the training pipeline."""
    corpus = toys.draw_corpus(24)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    corpus.features.fingerprint = encoder.fingerprint
    shared = {"images": corpus.images, "captions": corpus.captions, "features": corpus.features}
    by_words = toys.small_training(epochs=2)
    by_reward = SelfCriticalParameters.model_validate(
        {"epochs": 2, "batch_size": 8, "samples": 2, "processes": {"accelerator": "cpu"}}
    )
    folder = tmp_path_factory.mktemp("first")
    start, _, _ = teach_by_words(**shared, encoder=encoder, parameters=by_words, workbench=folder / "words")
    first, curves, _ = teach_by_reward(
        **shared, start=start, parameters=by_reward, workbench=folder / "reward"
    )
    given = {"first": first, "first_curves": curves, "by_words": by_words, "by_reward": by_reward}
    return {**shared, "encoder": encoder, **given}


def test_siblings_are_taught_from_their_own_seeds_and_join_the_first(material, tmp_path):
    together, curves = teach_together(
        **material, parameters=EnsembleParameters(seeds=(1, 2)), workbench=tmp_path
    )
    members = list(together.decoder.members)
    assert len(members) == 3
    assert members[0] is material["first"].decoder
    weights = [member.words.vectors for member in members]
    assert not torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert curves["epoch"].tolist() == material["first_curves"]["epoch"].tolist()
    assert [one["lineage"]["training"]["seed"] for one in together.lineage["members"]] == [0, 1, 2]


def test_a_repeated_run_takes_over_what_was_taught(material, tmp_path, caplog):
    parameters = EnsembleParameters(seeds=(1,))
    once, _ = teach_together(**material, parameters=parameters, workbench=tmp_path)
    with caplog.at_level("INFO"):
        again, _ = teach_together(**material, parameters=parameters, workbench=tmp_path)
    assert caplog.text.count("taken over") == 2
    for key, weight in once.decoder.state_dict().items():
        torch.testing.assert_close(again.decoder.state_dict()[key], weight)


def test_a_seed_that_is_taken_is_refused(material, tmp_path):
    with pytest.raises(ConfigurationError, match=r"ensemble\.seeds: 0 is the seed of"):
        teach_together(**material, parameters=EnsembleParameters(seeds=(0,)), workbench=tmp_path)
    with pytest.raises(ValidationError, match="give each its own"):
        EnsembleParameters(seeds=(1, 1))


def test_the_ensemble_goes_through_evaluation_to_the_registry():
    pipeline = create_pipeline()
    assert {"ensemble.captioner", "evaluation", "gate", "registered_version"} <= pipeline.all_outputs()
    assert "self_critical.captioner" in pipeline.inputs()
