"""Families of captioners: how encoder, decoder and tokenizer of each kind are written to a bundle and read.

Whoever holds a `Captioner` asks few things of it, whatever it is made of: `caption` photos, or what the
encoder saw of them (n-best, log-probabilities, confidences of words, attention or none); be trained, through
its `encoder` (whose features are cached by fingerprint), `decoder` (teacher forcing) and `tokenizer`;
`describe` itself; be saved and loaded as a bundle. Nothing above this package knows which family it holds.

A family says how its three parts lie in a bundle. `config.json` names it; one that names none is `trained`.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from captionloop.captioner.model_config import DecoderConfig, EnsembleConfig
from captionloop.errors import BundleError, ConfigurationError, EncoderError, first_line
from captionloop.languages import Language, language_of
from captionloop.vision.encoder import not_finite

if TYPE_CHECKING:
    from torch import Tensor

    from captionloop.captioner.bundle import BundleConfig
    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.decoders import Decoder
    from captionloop.tokenizer import CaptionTokenizer
    from captionloop.vision.encoder import Encoder

TRAINED: Final = "trained"
PRETRAINED: Final = "pretrained"
CONFIG, MODEL, ENCODER, TOKENIZER = (
    "config.json",
    "model.safetensors",
    "encoder.safetensors",
    "tokenizer.json",
)


class CaptionerParts(NamedTuple):
    """The encoder, decoder and tokenizer of a captioner."""

    encoder: "Encoder"
    decoder: "Decoder"
    tokenizer: "CaptionTokenizer"


class Family(Protocol):
    """How captioners of one kind are written to a bundle, read from it and described.

    Attributes:
        files: of a bundle, besides those that all have.
        carries: a folder of a bundle that may be there, or "": what the captioner is built on.
        packages: that serving one needs besides those that serving needs anyway.
    """

    files: tuple[str, ...]
    carries: str
    packages: tuple[str, ...]

    def write(self, captioner: "Captioner", folder: Path) -> None:
        """Put the parts into a bundle's folder."""

    def read(self, folder: Path, config: "BundleConfig") -> CaptionerParts:
        """The parts in a bundle's folder.

        Raises:
            BundleError: they are damaged, or do not fit each other.
        """

    def base_folder(self, folder: Path, config: "BundleConfig", *, fetch: bool) -> Path | None:
        """Where the files lie that the captioner in a bundle is built on; None: on nothing.

        Raises:
            BundleError: they are not here (`fetch`: nor on their hub), or the packages of the family are not.
        """

    def base_is_open(self, config: "BundleConfig") -> bool:
        """Whether this process holds what the captioner is built on already."""

    def describe(self, captioner: "Captioner") -> str:
        """Its architecture in a sentence or two (Markdown)."""


def family_of(name: str) -> Family:
    """The family that a bundle names.

    Raises:
        BundleError: this version knows none of that name.
    """
    if name == TRAINED:
        return TrainedFamily()
    if name == PRETRAINED:
        from captionloop.captioner.pretrained.pretrained_family import PretrainedFamily

        return PretrainedFamily()
    raise BundleError(f"captioners of family '{name}' are not known to this captionloop; upgrade it.")


def load_encoder(folder: Path) -> "Encoder":
    """An encoder of whichever family, as its `save` wrote it (EncoderError where there is none).

    It reads encoders alone and asks no `Family`: what reads one must not depend on how captions are made, or
    every change of that would have the encoder trained anew.
    """
    from safetensors import SafetensorError, safe_open

    from captionloop.vision.encoder import Encoder

    name = TRAINED
    try:
        with safe_open(folder / ENCODER, "pt") as file:
            name = (file.metadata() or {}).get("family", TRAINED)
    except (OSError, SafetensorError):
        pass  # told by what reads it
    if name == PRETRAINED:
        from captionloop.captioner.pretrained.vision_tower import VisionTower

        return VisionTower.load(folder)
    return Encoder.load(folder)


def load_weights(decoder: "Decoder", folder: Path) -> None:
    """Gives a decoder the weights in a bundle (BundleError where they are others' or not finite)."""
    from safetensors.torch import load_file

    weights = load_file(folder / MODEL)
    try:
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(f"{folder}: the weights do not fit {CONFIG} ({first_line(error)}).") from error
    _refuse_not_finite(weights, folder / MODEL)


def save_weights(decoder: "Decoder", folder: Path) -> None:
    """Writes a decoder's weights into a bundle (BundleError where they are not finite)."""
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()}
    _refuse_not_finite(weights, folder / MODEL)
    save_file(weights, folder / MODEL)


def language_in(config: "BundleConfig", folder: Path) -> Language:
    """The language that a bundle captions in (BundleError where there is none of that code)."""
    try:
        return language_of(config.language)
    except ConfigurationError as error:
        raise BundleError(f"{folder / CONFIG}: {error}") from error


class TrainedFamily:
    """Decoders and encoders that are trained here, and a vocabulary of the corpus's words."""

    files: tuple[str, ...] = (MODEL, ENCODER, TOKENIZER)
    carries = ""
    packages: tuple[str, ...] = ()

    def write(self, captioner: "Captioner", folder: Path) -> None:
        """See `Family`."""
        save_weights(captioner.decoder, folder)
        captioner.encoder.save(folder)
        captioner.tokenizer.save(folder / TOKENIZER)

    def read(self, folder: Path, config: "BundleConfig") -> CaptionerParts:
        """See `Family`."""
        from captionloop.captioner.decoders import build_decoder
        from captionloop.tokenizer import CaptionTokenizer
        from captionloop.vision.encoder import Encoder

        decoder = build_decoder(
            config.decoder, vocabulary_size=config.vocabulary_size, channels=config.encoder.channels
        )
        tokenizer = CaptionTokenizer.load(folder / TOKENIZER, language_in(config, folder))
        if tokenizer.vocabulary_size != config.vocabulary_size:
            raise BundleError(
                f"{folder}: {TOKENIZER} has {tokenizer.vocabulary_size} entries, {CONFIG} says"
                f" {config.vocabulary_size}: they are of two models. Copy the bundle again."
            )
        load_weights(decoder, folder)
        try:
            return CaptionerParts(Encoder.load(folder), decoder, tokenizer)
        except EncoderError as error:
            raise BundleError(f"{folder}: the weights do not fit {CONFIG} ({first_line(error)}).") from error

    def base_folder(self, folder: Path, config: "BundleConfig", *, fetch: bool) -> None:
        """None: all of it is in the bundle."""

    def base_is_open(self, config: "BundleConfig") -> bool:
        """See `Family`."""
        del config
        return False

    def describe(self, captioner: "Captioner") -> str:
        """See `Family`."""
        encoder, config = captioner.encoder, captioner.decoder.config
        weights = sum(parameter.numel() for parameter in captioner.decoder.parameters())
        words = "words" if captioner.tokenizer.language.is_spaced else "characters and words"
        stated = encoder.spec.licence
        licence = "" if stated is None else f"; licence of the weights it began with: {stated}"
        return (
            f"Encoder `{encoder.spec.architecture}` at {encoder.spec.input_size} px"
            f" ({encoder.rows} x {encoder.columns} regions of {encoder.channels} channels{licence});"
            f" decoder `{config.kind}` ({weights / 1e6:.1f} million weights: {_sizes(config)});"
            f" {captioner.tokenizer.vocabulary_size:,} {words}."
        )


def _sizes(config: DecoderConfig) -> str:
    if isinstance(config, EnsembleConfig):
        kinds = Counter(member.kind for member in config.members)
        return ", ".join(f"{count} members of kind `{kind}`" for kind, count in kinds.items())
    sizes = config.model_dump(exclude={"kind"})
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in sizes.items())


def _refuse_not_finite(weights: "dict[str, Tensor]", path: Path) -> None:
    broken = not_finite(weights)
    if broken:
        raise BundleError(
            f"{path}: the weights are not finite ({len(broken)} of {len(weights)} tensors, the first is"
            f" {broken[0]}): its training has diverged. Train it again, with a lower learning_rate."
        )
