"""The bundle: a captioner as a folder, never a pickle.

    config.json           what it is: decoder, encoder, decoding defaults, calibration, format version
    model.safetensors     the decoder's weights
    encoder.safetensors   the encoder's
    tokenizer.json        the vocabulary
    neighbours.safetensors   training photos and their captions, where captions are ranked by a consensus
    familiarity.safetensors  how training and validation photos look, where what is unlike them is told
    metrics.json          of its evaluation
    lineage.json          what it was made from
    MODEL_CARD.md         for people
    checksums.json        SHA-256 of all the others, verified whenever the bundle is read

A captioner on a pre-trained model has no tokenizer of its own: `config.json` names every file of its base by
hash, the weights are those that were learnt, and `base/` holds the base where the bundle carries it.

It is written beside its place and takes it in one step, so that a bundle that is there is whole.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from captionloop.captioner.families import CONFIG, ENCODER, MODEL, TOKENIZER, TRAINED, family_of
from captionloop.captioner.model_config import DecoderConfig, DecodingOptions
from captionloop.errors import BundleError
from captionloop.files import begin_folder, flush_folder, replace_folder
from captionloop.languages import ENGLISH

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.consensus import NeighbourIndex
    from captionloop.vision.embedding import Familiarity

FORMAT_VERSION: Final = 5
"""2 may rank by a consensus, and then has `neighbours.safetensors`; 3 says a `language`, which before was
always English; 4 may know what it learnt from, in `familiarity.safetensors`, and how often its captions are
accepted; 5 names a `family`, which before was always `trained`. All are read, and a bundle is written in the
lowest that says all of it."""
_ENGLISH_FORMAT: Final = 2
_LANGUAGE_FORMAT: Final = 3
_FAMILIARITY_FORMAT: Final = 4
NEIGHBOURS: Final = "neighbours.safetensors"
FAMILIARITY: Final = "familiarity.safetensors"
OPTIONAL: Final = (NEIGHBOURS, FAMILIARITY)
METRICS, LINEAGE, CARD, CHECKSUMS = "metrics.json", "lineage.json", "MODEL_CARD.md", "checksums.json"
COMMON: Final = (CONFIG, METRICS, LINEAGE, CARD)
FILES: Final = (CONFIG, MODEL, ENCODER, TOKENIZER, METRICS, LINEAGE, CARD)
"""Of a `trained` captioner; other families have files of their own beside those that are common."""
_READINGS: Final = 5  # of a folder that is replaced meanwhile


class EncoderSummary(BaseModel):
    """The encoder's spec for readers of `config.json`; loading takes the encoder's own file."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    input_size: int
    precision: str
    fingerprint: str
    rows: int
    columns: int
    channels: int


class BundleConfig(BaseModel):
    """`config.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["captionloop-bundle"] = "captionloop-bundle"
    format_version: int = FORMAT_VERSION
    name: str
    vocabulary_size: int
    decoder: DecoderConfig
    encoder: EncoderSummary
    decoding: DecodingOptions
    calibration: dict[str, list[float]] | None = None
    language: str = ENGLISH.code
    family: str = TRAINED


def save_bundle(captioner: "Captioner", folder: Path) -> None:
    """Write the bundle beside `folder`, and put it there in one step in the place of what was there before.

    Raises:
        BundleError: the decoder's weights are not finite. EncoderError: the encoder's are not.
    """
    folder = folder.absolute()
    partial = begin_folder(folder)
    _write(captioner, partial)
    flush_folder(partial)
    replace_folder(partial, folder)


def load_bundle(folder: Path) -> dict[str, Any]:
    """The parts of a `Captioner` by their names there, all of one bundle even where it is replaced meanwhile.

    Raises:
        BundleError: a file is missing, not listed or not what was written, weights are not finite, a
            consensus is asked for without neighbours, or the format is not ours.
    """
    for _ in range(_READINGS):
        before = _listed(folder)
        try:
            parts = _read(folder)
        except BundleError:
            if _listed(folder) == before:
                raise
            continue
        if _listed(folder) == before:
            return parts
    raise BundleError(f"{folder} is replaced again and again while it is read: try it again later.")


def _listed(folder: Path) -> bytes | None:
    try:
        return (folder / CHECKSUMS).read_bytes()
    except OSError:
        return None


def _read(folder: Path) -> dict[str, Any]:
    from captionloop.captioner.model_config import Calibration

    verify_bundle(folder)
    config = read_config(folder)
    family = family_of(config.family)
    parts = family.read(folder, config)
    optional: dict[str, Any] = {}
    for name, load in ((NEIGHBOURS, _load_neighbours), (FAMILIARITY, _load_familiarity)):
        try:
            optional[name] = load(folder, config)
        except (KeyError, ValueError) as error:
            raise BundleError(f"{folder / name} is not what this captionloop reads ({error}).") from error
    calibration = config.calibration
    return {
        "name": config.name,
        "encoder": parts.encoder,
        "decoder": parts.decoder,
        "tokenizer": parts.tokenizer,
        "decoding": config.decoding,
        "carries_base": bool(family.carries) and (folder / family.carries).is_dir(),
        "neighbours": optional[NEIGHBOURS],
        "familiarity": optional[FAMILIARITY],
        "calibration": None if calibration is None else Calibration.model_validate(calibration),
        "metrics": _read_json(folder / METRICS),
        "lineage": _read_json(folder / LINEAGE),
        "card": (folder / CARD).read_text(encoding="utf-8"),
    }


def read_config(folder: Path) -> BundleConfig:
    """`config.json` alone, what a bundle is, without loading it (BundleError as above)."""
    raw = _read_json(folder / CONFIG)
    version = raw.get("format_version")
    if raw.get("format") != "captionloop-bundle" or not isinstance(version, int):
        raise BundleError(f"{folder / CONFIG}: this is not a captionloop bundle.")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{folder}: bundle format {version} is newer than this captionloop reads ({FORMAT_VERSION});"
            " upgrade it."
        )
    try:
        return BundleConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{folder / CONFIG}: {place}: {first['msg']}.") from error


def verify_bundle(folder: Path) -> None:
    """Compare every file with its checksum (BundleError naming the first that differs).

    A file that would be read and has no checksum is refused as well.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no bundle here; train a model, or give another path.")
    path = folder / CHECKSUMS
    checksums = _read_json(path)
    family = family_of(str(_read_json(folder / CONFIG).get("family", TRAINED)))
    carried = {name for name in checksums if family.carries and name.startswith(f"{family.carries}/")}
    complete = set(checksums) - set(OPTIONAL) - carried == {*COMMON, *family.files}
    if path.read_bytes() != _document(checksums) or not complete:
        raise BundleError(f"{path} is damaged: it is not as it was written. Copy the bundle again.")
    for name in OPTIONAL:
        if name not in checksums and (folder / name).exists():
            raise BundleError(
                f"{folder / name} is not listed in {CHECKSUMS}: it does not belong to this bundle. Copy the"
                " bundle again."
            )
    for name in checksums:
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise BundleError(f"{folder / name} is missing or cannot be read ({error.strerror}).") from error
        if found != checksums[name]:
            raise BundleError(
                f"{folder / name} is damaged: its content does not match {CHECKSUMS}. Copy the bundle again."
            )


def _write(captioner: "Captioner", folder: Path) -> None:
    encoder, decoder, calibration = captioner.encoder, captioner.decoder, captioner.calibration
    language, family = captioner.tokenizer.language, family_of(decoder.family)
    config = BundleConfig(
        format_version=_lowest_format(captioner),
        family=decoder.family,
        language=language.code,
        name=captioner.name,
        vocabulary_size=decoder.vocabulary_size,
        decoder=decoder.config,
        encoder=EncoderSummary(
            architecture=encoder.spec.architecture,
            input_size=encoder.spec.input_size,
            precision=encoder.spec.precision,
            fingerprint=encoder.fingerprint,
            rows=encoder.rows,
            columns=encoder.columns,
            channels=encoder.channels,
        ),
        decoding=captioner.decoding,
        calibration=None
        if calibration is None
        else calibration.model_dump(mode="json", exclude_defaults=True),
    )
    implied = {"language": ENGLISH.code, "family": TRAINED}
    left_out = {name for name, value in implied.items() if getattr(config, name) == value}
    (folder / CONFIG).write_bytes(_document(config.model_dump(mode="json", exclude=left_out)))
    family.write(captioner, folder)
    carried = sorted((folder / family.carries).glob("*")) if family.carries else []
    names = [*COMMON, *family.files, *(path.relative_to(folder).as_posix() for path in carried)]
    for name, part in ((NEIGHBOURS, captioner.neighbours), (FAMILIARITY, captioner.familiarity)):
        if part is not None:
            from safetensors.numpy import save_file as save_arrays

            save_arrays(part.arrays(), folder / name)
            names.append(name)
    (folder / METRICS).write_bytes(_document(captioner.metrics))
    (folder / LINEAGE).write_bytes(_document(captioner.lineage))
    (folder / CARD).write_text(captioner.card or _default_card(captioner), encoding="utf-8")
    (folder / CHECKSUMS).write_bytes(_document({name: _sha256(folder / name) for name in names}))


def _lowest_format(captioner: "Captioner") -> int:
    calibration = captioner.calibration
    if captioner.decoder.family != TRAINED:
        return FORMAT_VERSION
    if captioner.familiarity is not None or (calibration is not None and calibration.calibrates_captions):
        return _FAMILIARITY_FORMAT
    return _ENGLISH_FORMAT if captioner.tokenizer.language == ENGLISH else _LANGUAGE_FORMAT


def _load_neighbours(folder: Path, config: BundleConfig) -> "NeighbourIndex | None":
    if not (folder / NEIGHBOURS).exists():  # else it is listed, and verified
        if config.decoding.consensus is not None:
            raise BundleError(
                f"{folder}: {CONFIG} asks for a consensus of training photos, but there is no {NEIGHBOURS}:"
                " copy the bundle again, with all its files, or train it again with decoding.consensus."
            )
        return None
    import numpy as np
    from safetensors.numpy import load_file

    from captionloop.captioner.consensus import NeighbourIndex

    neighbours = NeighbourIndex.from_arrays(load_file(folder / NEIGHBOURS))
    if neighbours.centre.shape != (config.encoder.channels,):
        raise ValueError(f"{len(neighbours.centre)} channels, the encoder has {config.encoder.channels}")
    arrays = neighbours.centre, neighbours.projection, neighbours.directions
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("its numbers are not finite")
    return neighbours


def _load_familiarity(folder: Path, config: BundleConfig) -> "Familiarity | None":  # noqa: ARG001
    if not (folder / FAMILIARITY).exists():  # else it is listed, and verified
        return None
    from safetensors.numpy import load_file

    from captionloop.vision.embedding import SIZE, Familiarity

    familiarity = Familiarity.from_arrays(load_file(folder / FAMILIARITY))
    if familiarity.training.shape[1] != SIZE:
        raise ValueError(f"photos in {familiarity.training.shape[1]} numbers, embeddings have {SIZE}")
    return familiarity


def _default_card(captioner: "Captioner") -> str:
    return (
        f"# {captioner.name}\n\n{captioner.describe()}"
        " Not evaluated yet: run `kedro run --pipelines evaluation`.\n"
    )


def _document(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} is missing or cannot be read: this is not a whole bundle.") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: it is not JSON ({error}). Copy the bundle again.") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} is damaged: it does not hold an object. Copy the bundle again.")
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
