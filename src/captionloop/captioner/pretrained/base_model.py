"""A pre-trained model's files: found in a folder or on a hub, checked by hash, opened as data alone.

Only safetensors are read, never a pickle, and `trust_remote_code` is never on. A folder is what
`save_pretrained` of the `transformers` package writes; of a hub the revision is pinned.
"""

import hashlib
import importlib.util
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from captionloop.captioner.model_config import BaseReference
from captionloop.config import project_folder
from captionloop.errors import BundleError, in_a_line

EXTRA: Final = "captionloop[transformers]"
_READ: Final = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_ON_A_HUB: Final = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")


@dataclass(eq=False)
class BaseModel:
    """A pre-trained model in memory, its weights frozen and shared by all that are built on it.

    Attributes:
        reference: which one. folder: where its files are.
        model: of the `transformers` package, in float32.
        tokenizer: of that package, of the fast kind.
        input_size: side of the square it is fed, px. mean, deviation: of its pixels between 0 and 1.
    """

    reference: BaseReference
    folder: Path
    model: Any
    tokenizer: Any
    input_size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __deepcopy__(self, memo: dict[int, Any]) -> "BaseModel":
        """Itself: it is shared, and never changes."""
        return self


_OPEN: WeakValueDictionary[str, BaseModel] = WeakValueDictionary()
_OPENING = threading.Lock()


def find_base(source: str) -> BaseReference:
    """Which model a folder or a `<hub id>@<revision>` holds, every file of it hashed.

    Raises:
        BundleError: it is not there, or not one that is read: no safetensors, no revision.
    """
    folder = _folder_of(source)
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        found = f"holds {pickles[0]}, which may run code when it is read" if pickles else "has no weights"
        raise BundleError(
            f"{source}: the model {found}; only safetensors are read: save it with"
            " save_pretrained(folder, safe_serialization=True), or take a revision that has them"
        )
    if not (folder / "config.json").is_file():
        raise BundleError(f"{source}: there is no config.json: give a folder that save_pretrained wrote")
    return BaseReference(source=source, files=_hashes(folder))


def open_base(reference: BaseReference, *, beside: Path | None = None) -> BaseModel:
    """The model, opened once in a process; `beside` is a copy that a bundle may carry.

    Raises:
        BundleError: it is gone, or its files are other ones; the package that opens it is not installed; or
            the architecture is none that captions here.
    """
    with _OPENING:
        known = _OPEN.get(reference.digest)
        carried = beside if beside is not None and beside.is_dir() else None
        if known is not None and carried is not None and not known.folder.is_dir():
            _check(carried, reference)  # the files that it was opened from are gone
            known.folder = carried
        if known is None:
            need_transformers()
            folder = locate_base(reference, beside=beside)
            _check(folder, reference)
            known = _OPEN[reference.digest] = _opened(reference, folder)
        return known


def locate_base(reference: BaseReference, *, beside: Path | None, fetch: bool = True) -> Path:
    """Where the model's files are (BundleError where they are not here, nor to be fetched)."""
    if beside is not None and beside.is_dir():
        return beside
    return _folder_of(reference.source, fetch=fetch)


def is_open(reference: BaseReference) -> bool:
    """Whether this process holds the model."""
    return reference.digest in _OPEN


def need_transformers() -> None:
    """Raises `BundleError` where the packages of the extra are not installed."""
    missing = [name for name in ("transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise BundleError(
            f"A pre-trained captioner needs {' and '.join(missing)}, which this environment has not: install"
            f" {EXTRA}"
        )


def copy_base(base: BaseModel, folder: Path) -> None:
    """Puts the model's files into a folder, for a bundle that carries them."""
    folder.mkdir()
    for name in base.reference.files:
        (folder / name).write_bytes((base.folder / name).read_bytes())


def _folder_of(source: str, *, fetch: bool = True) -> Path:
    """Its folder; a relative one lies in the project, wherever in it a command is called."""
    for folder in (Path(source), project_folder() / source):
        if folder.is_dir():
            return folder
    on_a_hub = _ON_A_HUB.fullmatch(source)
    if on_a_hub is None:
        pinned = " (a hub's model needs its revision: <hub id>@<revision>)" if "/" in source else ""
        raise BundleError(f"{source}: there is no folder of this name{pinned}")
    need_transformers()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                on_a_hub["name"],
                revision=on_a_hub["revision"],
                allow_patterns=[*_READ, "*.md"],
                local_files_only=not fetch,
            )
        )
    except Exception as error:  # of the network, the hub, the disk: each library has its own kind
        raise BundleError(
            f"{source} cannot be fetched ({type(error).__name__}: {in_a_line(error)}): put the model into a"
            " folder and give its path"
        ) from error


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted({path for pattern in _READ for path in folder.glob(pattern) if path.is_file()})
    return {path.name: _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)  # gigabytes, which a process reads through once
def _sha256_of(path: Path, size: int, changed: int) -> str:
    del size, changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(folder: Path, reference: BaseReference) -> None:
    for name, expected in reference.files.items():
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise BundleError(
                f"{folder / name} is missing: the bundle's base model was read from {reference.source}"
            ) from error
        if found != expected:
            raise BundleError(
                f"{folder / name} is not the file that the bundle refers to: put the base model of"
                f" {reference.source} back, or register a captioner on the new one"
            )


def _opened(reference: BaseReference, folder: Path) -> BaseModel:
    from captionloop.captioner.pretrained.text_sides import model_class

    with _in_one_line(reference.source), _quietly():
        from transformers import AutoConfig, AutoTokenizer

        local = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(folder, **local)
        kind = model_class(config)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        # Attention that is looked at is computed step by step; the fused kernels return none.
        model = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype="float32", attn_implementation="eager"
        )
    model.eval().requires_grad_(requires_grad=False)
    for part in model.modules():
        if getattr(part, "loss_type", "") is None:  # else whoever looks at it is told so, once more each time
            part.loss_type = "ForCausalLM"
    size, mean, deviation = _pixels(folder, config)
    return BaseModel(reference, folder, model, tokenizer, size, mean, deviation)


@contextmanager
def _in_one_line(source: str) -> Iterator[None]:
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(
            f"{source} cannot be opened ({type(error).__name__}: {in_a_line(error)})"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the package's bars and advice, which are for notebooks."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _pixels(folder: Path, config: Any) -> tuple[int, tuple[float, float, float], tuple[float, float, float]]:
    """Side, mean and deviation that the model was trained with."""
    import json

    processor: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if not processor and (folder / name).is_file():
            found = json.loads((folder / name).read_text(encoding="utf-8"))
            processor = found.get("image_processor", found)
    if "image_mean" not in processor or "image_std" not in processor:
        raise BundleError(
            f"{folder}: preprocessor_config.json with image_mean and image_std is missing: how the model"
            " expects its pixels is not known"
        )
    vision = getattr(config, "vision_config", None) or getattr(config, "encoder", None)
    side = getattr(vision, "image_size", None) or _side(processor.get("crop_size") or processor.get("size"))
    if not isinstance(side, int):
        raise BundleError(f"{folder}: it sees photos of no fixed size, which is not supported here")
    mean, deviation = (tuple(float(value) for value in processor[key]) for key in ("image_mean", "image_std"))
    return side, mean, deviation  # type: ignore[return-value]


def _side(size: Any) -> Any:
    if isinstance(size, dict):
        return size.get("height") or size.get("shortest_edge") or size.get("longest_edge")
    return size
