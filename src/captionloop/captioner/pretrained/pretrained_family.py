"""Captioners on a pre-trained image-text model: a bundle holds the trained weights and refers to the base.

A version is the hash of the base with an adapter of a few megabytes; all versions on one base share its
weights in memory. Where a bundle shall stand alone it carries the base's files as well, in `base/`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.families import (
    ENCODER,
    MODEL,
    CaptionerParts,
    language_in,
    load_weights,
    save_weights,
)
from captionloop.captioner.model_config import (
    BaseReference,
    DecodingOptions,
    LoraOptions,
    PretrainedConfig,
)
from captionloop.captioner.pretrained.base_model import (
    BaseModel,
    copy_base,
    find_base,
    is_open,
    locate_base,
    need_transformers,
    open_base,
)
from captionloop.captioner.pretrained.pretrained_decoder import PretrainedDecoder
from captionloop.captioner.pretrained.vision_tower import VisionTower
from captionloop.errors import BundleError, EncoderError, first_line
from captionloop.languages import ENGLISH, Language

if TYPE_CHECKING:
    from captionloop.captioner.bundle import BundleConfig
    from captionloop.hardware import Precision

BASE: Final = "base"


def open_captioner(  # noqa: PLR0917 - the parts of a captioner that nobody has trained yet
    source: str,
    name: str,
    decoding: DecodingOptions,
    prompt: str | None = None,
    lora: LoraOptions | None = None,
    precision: "Precision" = "float32",
    language: Language = ENGLISH,
    *,
    carries_base: bool = False,
) -> Captioner:
    """A pre-trained model as it is, ready to caption and to be trained on.

    Args:
        source: the folder of the model, or `<hub id>@<revision>`.
        name: of the captioner.
        decoding: how it searches.
        prompt: what it is asked, where it is asked anything; None: what its kind is asked.
        lora: what is to learn when it is trained; None: the whole text side.
        precision: of the vision tower.
        language: that it captions in.
        carries_base: whether its bundle holds the model's files.

    Raises:
        BundleError: it cannot be opened; the message says why.
    """
    base = open_base(find_base(source))
    tower = VisionTower.of(base, precision)
    decoder = PretrainedDecoder(
        PretrainedConfig(base=base.reference, prompt=prompt, lora=lora), base, tower.channels
    )
    tokenizer = decoder.tokenizer.in_language(language)
    lineage = {"base": source, "base_sha256": base.reference.digest, "encoder_fingerprint": tower.fingerprint}
    return Captioner(name, tower, decoder, tokenizer, decoding, lineage=lineage, carries_base=carries_base)


class PretrainedFamily:
    """See `captioner/families.py`."""

    files: tuple[str, ...] = (MODEL, ENCODER)
    carries: str = BASE
    packages: tuple[str, ...] = ("peft", "transformers")

    def write(self, captioner: Captioner, folder: Path) -> None:
        """Writes the trained weights and the tower's spec; where it carries them, the base's files."""
        save_weights(captioner.decoder, folder)
        captioner.encoder.save(folder)
        if captioner.carries_base:
            copy_base(_base_of(captioner), folder / BASE)

    def read(self, folder: Path, config: "BundleConfig") -> CaptionerParts:
        """See `Family`."""
        base = open_base(_reference(folder, config), beside=folder / BASE)
        assert isinstance(config.decoder, PretrainedConfig)  # else it had no reference
        decoder = PretrainedDecoder(config.decoder, base, config.encoder.channels)
        load_weights(decoder, folder)
        try:
            tower = VisionTower.load(folder)
        except EncoderError as error:
            raise BundleError(f"{folder}: the vision tower is not read ({first_line(error)}).") from error
        return CaptionerParts(tower, decoder, decoder.tokenizer.in_language(language_in(config, folder)))

    def base_folder(self, folder: Path, config: "BundleConfig", *, fetch: bool) -> Path:
        """See `Family`."""
        need_transformers()
        return locate_base(_reference(folder, config), beside=folder / BASE, fetch=fetch)

    def base_is_open(self, config: "BundleConfig") -> bool:
        """See `Family`."""
        return isinstance(config.decoder, PretrainedConfig) and is_open(config.decoder.base)

    def describe(self, captioner: Captioner) -> str:
        """See `Family`."""
        base, encoder, decoder = _base_of(captioner), captioner.encoder, captioner.decoder
        learnt = sum(weight.numel() for weight in decoder.parameters() if weight.requires_grad)
        text_size = sum(weight.numel() for weight in decoder.parameters())
        tower_size = sum(weight.numel() for weight in encoder.module.parameters())
        kind, source, digest = base.model.config.model_type, base.reference.source, base.reference.digest
        return (
            f"Pre-trained `{kind}` of `{source}` (base `{digest[:12]}`): vision tower at"
            f" {captioner.input_size} px ({tower_size / 1e6:.1f} million weights, frozen; {encoder.regions}"
            f" vectors of {encoder.channels} channels); text side of {text_size / 1e6:.1f} million weights,"
            f" of which {learnt / 1e6:.2f} million learn here; {captioner.tokenizer.vocabulary_size:,} pieces"
            " of words."
        )


def _reference(folder: Path, config: "BundleConfig") -> BaseReference:
    if not isinstance(config.decoder, PretrainedConfig):
        raise BundleError(f"{folder}: a pre-trained captioner's decoder cannot be '{config.decoder.kind}'.")
    return config.decoder.base


def _base_of(captioner: Captioner) -> BaseModel:
    decoder = captioner.decoder
    if not isinstance(decoder, PretrainedDecoder):
        raise BundleError(
            f"{captioner.name}: a pre-trained captioner cannot be an ensemble: save its members."
        )
    return decoder.base
