"""What a user gets wrong costs one clear line and an exit code, seen through the real command."""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

pytestmark = pytest.mark.e2e

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kedro(project_root: Path, tmp_path: Path) -> Run:
    """`kedro run --env flickr8k` in a workspace of its own, on the data folder that it is given."""

    def run(pipelines: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        place = {"workspace": str(tmp_path / "workspace"), "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
        command = [sys.executable, "-m", "kedro", "run", "--env", "flickr8k", "--pipelines", pipelines]
        command += ["--params", ",".join(f"{name}={value}" for name, value in (place | parameters).items())]
        return subprocess.run(
            command, cwd=project_root, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four photos in Karpathy's form, all sound."""
    folder = tmp_path / "corpus"
    (folder / "images").mkdir(parents=True)
    images = []
    for number, split in enumerate(("train", "train", "train", "val")):
        name = f"photo{number}.png"
        Image.effect_noise((64, 64), 40 + 30 * number).convert("RGB").save(folder / "images" / name)
        sentences = [{"raw": f"a grey thing of kind {number}", "tokens": []} for _ in range(5)]
        images.append({"filename": name, "split": split, "sentences": sentences, "imgid": number})
    write_karpathy(folder, {"dataset": "four", "images": images})
    return folder


def write_karpathy(folder: Path, document: Mapping[str, object]) -> None:
    (folder / "dataset_flickr8k.json").write_text(json.dumps(document))


def assert_one_line(finished: subprocess.CompletedProcess[str], *expected: str) -> None:
    errors = [line for line in finished.stderr.splitlines() if line.startswith("Error: ")]
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert len(errors) == 1, finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
    for words in expected:
        assert words in errors[0]


def test_a_missing_folder(kedro: Run, tmp_path: Path) -> None:
    assert_one_line(kedro("data_validation", data=str(tmp_path / "nowhere")), "nowhere")


def test_captions_that_are_not_json(kedro: Run, corpus: Path) -> None:
    (corpus / "dataset_flickr8k.json").write_text('{"images": [')
    assert_one_line(kedro("data_validation", data=str(corpus)), "dataset_flickr8k.json")


def test_weights_of_another_architecture(kedro: Run, corpus: Path, tmp_path: Path) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    finished = kedro("encoder_adaptation", data=str(corpus), weights=str(tmp_path / "resnet18.pth"))
    assert_one_line(finished, "mobilenet_v2", "do not belong")


def test_an_unknown_encoder(kedro: Run, corpus: Path) -> None:
    finished = kedro("encoder_adaptation", data=str(corpus), **{"encoder.architecture": "resnet19"})
    assert_one_line(finished, "resnet19", "resnet18")


def test_what_is_wrong_with_photos_and_captions_is_counted_in_one_line(kedro: Run, corpus: Path) -> None:
    document = json.loads((corpus / "dataset_flickr8k.json").read_text())
    images = document["images"]
    images[0]["sentences"] = []  # an image without captions
    images.append({**images[3], "filename": "nowhere.png"})  # captions without an image
    whole = (corpus / "images" / "photo1.png").read_bytes()
    (corpus / "images" / "photo1.png").write_bytes(whole[: len(whole) // 2])
    (corpus / "images" / "photo2.png").write_bytes(huge_png(40_000))
    write_karpathy(corpus, document)
    stop = {"data_validation.on_failure": "stop"}
    assert_one_line(kedro("data_validation", data=str(corpus), weights="none", **stop), "quarantine")


def huge_png(side: int) -> bytes:
    """A PNG that says it is so large: a few bytes on disk, gigabytes in memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
