import corpus_for_tests
import pytest
import torch
from captionloop.pipelines.training.nodes import ensemble_captioners, train_cross_entropy, train_self_critical
from pydantic import ValidationError

from captionloop.errors import ConfigurationError
from captionloop.training.training_parameters import EnsembleParameters, SelfCriticalParameters
from captionloop.vision.encoder import Encoder, EncoderSpec

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """What the node is given: two captioners, and how they were taught."""
    corpus = corpus_for_tests.draw_corpus(24)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    corpus.features.fingerprint = encoder.fingerprint
    shared = {"images": corpus.images, "captions": corpus.captions, "features": corpus.features}
    words = corpus_for_tests.small_training(epochs=2)
    reward = SelfCriticalParameters.model_validate(
        {"epochs": 2, "batch_size": 8, "samples": 2, "processes": {"accelerator": "cpu"}}
    )
    folder = tmp_path_factory.mktemp("taught")
    start, _, _ = train_cross_entropy(
        **shared, encoder=encoder, parameters=words, checkpoints=folder / "words"
    )
    taught, _, _ = train_self_critical(
        **shared, start=start, parameters=reward, checkpoints=folder / "reward"
    )
    given = {"by_words": start, "by_reward": taught, "words": words, "reward": reward}
    return {**shared, "encoder": encoder, **given}


def test_without_seeds_the_two_that_are_there_are_joined_as_they_are(material, tmp_path):
    together = ensemble_captioners(**material, parameters=EnsembleParameters(), checkpoints=tmp_path)
    members = list(together.decoder.members)
    assert members == [material["by_reward"].decoder, material["by_words"].decoder]
    assert together.decoding == material["by_reward"].decoding
    assert not list(tmp_path.iterdir())


def test_siblings_are_taught_from_their_own_seeds(material, tmp_path):
    together = ensemble_captioners(
        **material, parameters=EnsembleParameters(seeds=(1, 2)), checkpoints=tmp_path
    )
    taught, _, *siblings = together.decoder.members
    weights = [member.words.vectors for member in (taught, *siblings)]
    assert not torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    seeds = [one["lineage"]["training"]["seed"] for one in together.lineage["members"]]
    assert seeds == [0, 0, 1, 2]


def test_a_repeated_run_takes_over_what_was_taught(material, tmp_path, caplog):
    parameters = EnsembleParameters(seeds=(1,))
    once = ensemble_captioners(**material, parameters=parameters, checkpoints=tmp_path)
    with caplog.at_level("INFO"):
        again = ensemble_captioners(**material, parameters=parameters, checkpoints=tmp_path)
    assert caplog.text.count("taken over") == 2
    for key, weight in once.decoder.state_dict().items():
        torch.testing.assert_close(again.decoder.state_dict()[key], weight)


def test_a_seed_that_is_taken_is_refused(material, tmp_path):
    with pytest.raises(ConfigurationError, match=r"seeds: 0 is the seed of"):
        ensemble_captioners(**material, parameters=EnsembleParameters(seeds=(0,)), checkpoints=tmp_path)
    with pytest.raises(ValidationError, match="give each its own"):
        EnsembleParameters(seeds=(1, 1))
