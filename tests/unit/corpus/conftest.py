"""Small corpora: a sound one, and one that has every illness we know."""

import io
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionloop.corpus.expectations import CorpusRules
from captionloop.corpus.gx_runner import ExpectationRunner
from captionloop.corpus.photo_checks import inspect_photos
from captionloop.corpus.tables import RawCorpus
from captionloop.corpus.validation import Validated, sort_rows, validate
from captionloop.photos import PhotoFolder, found_names


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Soft coloured patches that differ from one seed to the next."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise, "RGB").resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def photo(seed: int, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    return encoded(picture(seed, size), **options)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and holds none of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def corpus_of(
    images: list[tuple[str, str]], captions: list[tuple[str, object]], *, ids: list[str] | None = None
) -> RawCorpus:
    """From (file name, split) and (file name, text)."""
    ids = ids or [f"{name}#{place}" for place, (name, _) in enumerate(captions)]
    return RawCorpus.from_rows(
        [(name, name, split) for name, split in images],
        [(caption_id, name, text) for caption_id, (name, text) in zip(ids, captions, strict=True)],
    )


def write_json(path: Path, document: object) -> str:
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def validated(corpus: RawCorpus, photos: PhotoFolder, rules: CorpusRules | None = None) -> Validated:
    rules = rules or CorpusRules()
    names = photos.names()
    facts = inspect_photos(photos, found_names(corpus.images["uri"], names), rules.photo)
    with ExpectationRunner() as runner:  # without Data Docs, which take as long as all the rest
        tables, report = sort_rows(runner, corpus, facts, names, rules)
    return Validated(*tables, report, pages={})


@dataclass(frozen=True)
class Sick:
    corpus: RawCorpus
    photos: PhotoFolder
    result: Validated

    def reason(self, row_id: str) -> str:
        quarantine = self.result.quarantine
        (reason,) = quarantine.loc[quarantine["id"] == row_id, "reason"]
        return str(reason)


@pytest.fixture(scope="session")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Sick:
    folder = PhotoFolder(str(tmp_path_factory.mktemp("sick")))
    original = picture(100)
    folder.write("good.jpg", photo(1))
    folder.write("also_good.png", photo(2, form="PNG"))
    folder.write("truncated.jpg", photo(3, (200, 200))[:-900])
    folder.write("gigantic.png", png_of(40_000, 40_000))
    folder.write("page.jpg", b"<html>not found</html>")
    folder.write("empty.jpg", b"")
    folder.write("thumbnail.jpg", photo(4, (12, 40)))
    folder.write("silent.jpg", photo(5))
    folder.write("in_no_split.jpg", photo(6))
    folder.write("odd_split.jpg", photo(7))
    folder.write("seen_in_train.jpg", encoded(original, quality=92))
    folder.write("seen_in_val.jpg", encoded(original.resize((96, 72)), quality=50))
    folder.write("first.jpg", photo(8))
    folder.write("copy.jpg", photo(8))
    folder.write("never_named.jpg", photo(9))
    images = [
        ("good.jpg", "train"),
        ("also_good.png", "test"),
        ("truncated.jpg", "train"),
        ("gigantic.png", "train"),
        ("page.jpg", "train"),
        ("empty.jpg", "train"),
        ("thumbnail.jpg", "train"),
        ("silent.jpg", "val"),
        ("odd_split.jpg", "extra"),
        ("seen_in_train.jpg", "train"),
        ("seen_in_val.jpg", "val"),
        ("first.jpg", "train"),
        ("copy.jpg", "train"),
        ("absent.jpg", "train"),
        ("../outside.jpg", "train"),
        ("good.jpg", "val"),
    ]
    captions: list[tuple[str, object]] = [(name, f"A picture of {name} .") for name, _ in images[:15]]
    del captions[7]  # of silent.jpg, whose only caption is to be empty
    illnesses: dict[str, tuple[str, object]] = {
        "blank": ("good.jpg", "  \n "),
        "null": ("good.jpg", None),
        "number": ("good.jpg", 17),
        "digits": ("good.jpg", "1234 !!"),
        "control": ("good.jpg", "a dog\x00 runs"),
        "mojibake": ("good.jpg", "a caf\ufffd"),
        "endless": ("good.jpg", "very " * 200 + "long"),
        "breathless": ("good.jpg", "a" * 2000),
        "mute": ("silent.jpg", ""),
        "quirk": ("good.jpg.1", "a file that does not exist"),
        "unlisted": ("in_no_split.jpg", "a photo in no split"),
        "good.jpg#0": ("good.jpg", "The same id again ."),
    }
    names = [f"{name}#0" for name, _ in captions]
    corpus = corpus_of(images, captions + list(illnesses.values()), ids=names + list(illnesses))
    facts = inspect_photos(folder, corpus.images["uri"].tolist(), CorpusRules().photo)
    return Sick(corpus, folder, validate(corpus, facts, folder.names(), CorpusRules()))
