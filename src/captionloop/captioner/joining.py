"""Captioners that caption together: one captioner whose decoder is the mean of theirs."""

from collections.abc import Sequence

from captionloop.captioner.architectures import EnsembleConfig, SingleConfig
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.options import DecodingOptions
from captionloop.errors import ConfigurationError


def join(members: Sequence[Captioner], name: str, decoding: DecodingOptions) -> Captioner:
    """One captioner of several that see through the same encoder and know the same words.

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
