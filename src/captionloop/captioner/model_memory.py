"""The memory that a bundle's model needs, in: its folder, out: bytes; and a refusal where there are fewer.

Weights are counted exactly, by the headers of their files. What a batch takes is an estimate: every layer
remembers what it has seen of every hypothesis, and every hypothesis scores the whole vocabulary.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from captionloop.captioner.bundle import read_config
from captionloop.captioner.families import family_of
from captionloop.errors import BundleError
from captionloop.hardware import available_memory

if TYPE_CHECKING:
    from captionloop.captioner.bundle import BundleConfig
    from captionloop.captioner.captioner import Captioner

GIGABYTE: Final = 1 << 30
_FLOAT: Final = 4
_TOWERS: Final = frozenset({"vision_model", "vision_tower", "image_encoder", "visual"})
_LAYERS: Final = ("num_hidden_layers", "n_layer", "decoder_layers", "num_layers")
_SCORES: Final = 3  # logits, their logarithms, and what a search makes of them


@dataclass(frozen=True)
class NeededMemory:
    """Bytes that a model takes.

    Attributes:
        base: of weights that other versions share. learnt: of its own. tower: a second time, in the runtime
            that computes what photos look like. batch: while it captions, roughly.
    """

    base: int
    learnt: int
    tower: int
    batch: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.base + self.learnt + self.tower + self.batch

    def __str__(self) -> str:
        shared = f"base {_readable(self.base)}, " if self.base else ""
        return (
            f"about {_readable(self.total)} ({shared}own weights {_readable(self.learnt)}, encoder at work"
            f" {_readable(self.tower)}, captioning {_readable(self.batch)})"
        )


def needed_memory(folder: Path, *, batch: int = 16, fetch: bool = False) -> NeededMemory:
    """What the model in a bundle takes when it captions so many photos at once.

    Raises:
        BundleError: the bundle cannot be read, its base is not here (`fetch`: nor on its hub), or an extra
            that it needs is not installed.
    """
    config = read_config(folder)
    family = family_of(config.family)
    base = family.base_folder(folder, config, fetch=fetch)
    shared = {} if base is None else _sizes(sorted(base.glob("*.safetensors")))
    own = [_sizes([folder / name]) for name in family.files if name.endswith(".safetensors")]
    tower = sum(size for name, size in shared.items() if _is_of_tower(name))
    # The encoder's is the second of the two files of a model that is trained here.
    return NeededMemory(
        base=sum(shared.values()),
        learnt=sum(sum(sizes.values()) for sizes in own),
        tower=tower if base is not None else sum(own[1].values()),
        batch=_of_batch(config, batch, 1 if base is None else _layers(base)),
    )


def load_where_it_fits(folder: Path, *, streams: int, batch: int) -> "Captioner":
    """The captioner in a bundle, for a server that captions `batch` photos at once in each of `streams`.

    Raises:
        BundleError: it needs more memory than is free here, or cannot be read.
    """
    from captionloop.captioner.captioner import Captioner

    refuse_too_large(folder, batch=batch * streams)
    return Captioner.load(folder, streams=streams)


def refuse_too_large(folder: Path, *, batch: int = 16) -> None:
    """Raises `BundleError` where a model needs more memory than is free here, or cannot be read.

    A base that this process holds already is not counted; where the system does not say what is free, no
    model is too large.
    """
    free, config = available_memory(), read_config(folder)
    need = needed_memory(folder, batch=batch, fetch=True)
    if free is None:
        return
    open_already = need.base if family_of(config.family).base_is_open(config) else 0
    if need.total - open_already > free:
        raise BundleError(
            f"{folder}: the model needs {need}, and {_readable(free)} are free: give the machine or container"
            " more memory, lower CAPTIONLOOP_MAX_BATCH or CAPTIONLOOP_MODEL_STREAMS, or serve a smaller one"
        )


def _readable(size: int) -> str:
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE / 10 else f"{size / 2**20:.0f} MB"


def _sizes(files: list[Path]) -> dict[str, int]:
    """Bytes of each tensor in float32, in which all compute, whatever they are kept in."""
    return {name: _FLOAT * count for file in files for name, count in _counts(file)}


def _counts(file: Path) -> Iterator[tuple[str, int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            for name in opened.keys():  # noqa: SIM118 - no dictionary
                yield name, math.prod(opened.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{file} is damaged or missing: it does not say what it holds ({error})") from error


def _is_of_tower(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "encoder" or not _TOWERS.isdisjoint(parts)


def _of_batch(config: "BundleConfig", batch: int, layers: int) -> int:
    seen = config.encoder.rows * config.encoder.columns
    width, rows = config.encoder.channels, batch * config.decoding.beam_width
    cached = 2 * layers * (seen + config.decoding.max_length) * width  # keys and values
    return _FLOAT * (rows * (cached + _SCORES * config.vocabulary_size) + batch * seen * width)


def _layers(base: Path) -> int:
    """The most layers of any part of a pre-trained model."""
    try:
        return max(_named(json.loads((base / "config.json").read_text(encoding="utf-8"))), default=12)
    except (OSError, ValueError) as error:
        raise BundleError(f"{base / 'config.json'} cannot be read ({error})") from error


def _named(config: Any) -> Iterator[int]:
    if isinstance(config, dict):
        for name, value in config.items():
            if name in _LAYERS and isinstance(value, int):
                yield value
            else:
                yield from _named(value)
