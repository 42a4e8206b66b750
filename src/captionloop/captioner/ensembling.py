"""Captioners in, one out: an ensemble of their decoders, or the average of their weights.

Decoders fine-tuned from the same weights, with another order of photos and other dropout, lie in one basin of
the loss; the mean of their weights has a lower loss than any of them (Wortsman et al. 2022, "Model Soups",
arXiv 2203.05482). With few captions, where they differ most, it gains most.
"""

import copy
from collections.abc import Sequence

import torch

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import Decoder
from captionloop.captioner.model_config import DecodingOptions, EnsembleConfig, SingleConfig
from captionloop.errors import ConfigurationError


@torch.no_grad()
def average_weights(decoders: Sequence[Decoder]) -> Decoder:
    """A decoder of the mean weights; the decoders stay as they are.

    Args:
        decoders: one or more, of the same architecture and vocabulary, fine-tuned from the same weights; the
            mean of decoders with initial weights of their own is of no use.
    """
    found = copy.deepcopy(decoders[0])
    weights = [decoder.state_dict() for decoder in decoders]
    for name, mean in found.state_dict().items():
        mean.copy_(torch.stack([each[name].to(mean.device) for each in weights]).double().mean(0))
    return found


def build_ensemble(members: Sequence[Captioner], name: str, decoding: DecodingOptions) -> Captioner:
    """Several captioners of the same encoder and vocabulary in, one captioner with an `Ensemble` decoder out.

    Members that are ensembles themselves come in by their own members, so that each counts once. The lineage
    names all, and else is that of the first.

    Raises:
        ConfigurationError: there are fewer than two, or they differ in encoder or vocabulary.
    """
    from captionloop.captioner.decoders import Decoder, Ensemble

    first = members[0]
    for other in members[1:]:
        if other.encoder.fingerprint != first.encoder.fingerprint:
            raise ConfigurationError(
                f"'{first.name}' and '{other.name}' see through different encoders: an ensemble has one, so"
                " train its members on the same cached features."
            )
        if (other.tokenizer.language, other.tokenizer.words) != (
            first.tokenizer.language,
            first.tokenizer.words,
        ):
            raise ConfigurationError(
                f"'{first.name}' and '{other.name}' know different words: an ensemble has one vocabulary, so"
                " train its members on the same captions with the same `vocabulary`."
            )
    if decoding.consensus is not None and first.neighbours is None:
        raise ConfigurationError(
            f"'{name}' is to find a consensus, but '{first.name}' remembers no training photos: give it"
            " decoding.consensus too."
        )
    decoders: list[Decoder] = []
    for member in members:
        own = member.decoder
        decoders += own.decoders if isinstance(own, Ensemble) else [own]
    if len(decoders) < 2:
        raise ConfigurationError("An ensemble needs two captioners at least.")
    configs: tuple[SingleConfig, ...] = tuple(decoder.config for decoder in decoders)  # type: ignore[misc]
    return Captioner(
        name=name,
        encoder=first.encoder,
        decoder=Ensemble(EnsembleConfig(members=configs), decoders),
        tokenizer=first.tokenizer,
        decoding=decoding,
        neighbours=first.neighbours,
        lineage={
            **first.lineage,
            "parent": None,
            "members": [{"name": member.name, "lineage": member.lineage} for member in members],
        },
    )
