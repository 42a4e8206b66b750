import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from captionloop.errors import ConfigurationError
from captionloop.vision import runtimes
from captionloop.vision.encoder import IMAGENET_DEVIATION, IMAGENET_MEAN, Encoder, EncoderSpec
from captionloop.vision.runtimes import EncoderRuntime, cores, make_runtime, native_precision


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (21, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def openvino(encoder: Encoder) -> EncoderRuntime:
    return make_runtime(encoder, device="cpu", purpose="throughput")


def reference(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(of).view(3, 1, 1) for of in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    images = (images - mean) / deviation
    with torch.inference_mode():
        return encoder.module(images).numpy()


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_every_engine_gives_the_encoders_numbers(
    encoder: Encoder, pixels: np.ndarray, engine: str, purpose: str
) -> None:
    runtime = make_runtime(encoder, device="cpu", engine=engine, purpose=purpose)
    grids = runtime.encode(pixels[:5])
    expected = reference(encoder, pixels[:5])
    assert grids.dtype == np.float16
    assert grids.shape == (5, encoder.regions, encoder.channels)
    np.testing.assert_allclose(grids, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_bfloat16_comes_close(encoder: Encoder, pixels: np.ndarray, engine: str) -> None:
    runtime = make_runtime(encoder.respecified(precision="bfloat16"), device="cpu", engine=engine)
    expected = reference(encoder, pixels[:4])
    assert np.abs(runtime.encode(pixels[:4]) - expected).max() < 0.05 * np.abs(expected).max()


def test_an_images_numbers_do_not_depend_on_its_neighbours(
    openvino: EncoderRuntime, pixels: np.ndarray
) -> None:
    together = openvino.encode(pixels)
    assert (openvino.encode(pixels[::-1])[::-1] == together).all()
    assert (openvino.encode(pixels[20:]) == together[20:]).all()


def test_threads_may_encode_at_once(openvino: EncoderRuntime, pixels: np.ndarray) -> None:
    expected = openvino.encode(pixels)
    barrier = threading.Barrier(4)

    def encode(at: int) -> bool:
        barrier.wait()
        return all((openvino.encode(pixels[at : at + 5]) == expected[at : at + 5]).all() for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(encode, [0, 5, 10, 15]))


def test_streams_share_the_cores_and_change_no_number(encoder: Encoder, pixels: np.ndarray) -> None:
    one = make_runtime(encoder, device="cpu", engine="openvino")
    three = make_runtime(encoder, device="cpu", engine="openvino", streams=3)
    assert (one.workers, three.workers) == (1, 3)
    expected = one.encode(pixels[:3])
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(three.encode, [pixels[:3]] * 12):
            np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("150000 100000", 1), ("20000 100000", 1), ("400000 100000", 4), ("max 100000", 8), (None, 8)],
)
def test_a_containers_share_of_the_cores_counts(
    limit: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    if limit is not None:
        quota.write_text(limit + "\n")
    monkeypatch.setattr(runtimes, "CPU_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores() == expected


def test_an_empty_batch_gives_an_empty_grid(
    openvino: EncoderRuntime, pixels: np.ndarray, encoder: Encoder
) -> None:
    assert openvino.encode(pixels[:0]).shape == (0, encoder.regions, encoder.channels)


def test_pixels_of_another_size_are_refused(openvino: EncoderRuntime) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        openvino.encode(np.zeros((2, 16, 16, 3), np.uint8))


def test_unknown_devices_and_engines_are_one_line(encoder: Encoder) -> None:
    with pytest.raises(ConfigurationError, match="unknown device 'tpu'"):
        make_runtime(encoder, device="tpu")
    with pytest.raises(ConfigurationError, match="unknown engine"):
        make_runtime(encoder, device="cpu", engine="tensorrt")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError, match="no usable GPU"):
            make_runtime(encoder, device="cuda")


def test_the_native_precision_is_one_that_the_runtime_computes_in() -> None:
    spec = EncoderSpec(architecture="resnet10", input_size=32, layer="layer1", precision=native_precision())
    assert make_runtime(Encoder.build(spec)).precision == spec.precision


@pytest.mark.e2e
@pytest.mark.named_use
def test_what_encodes_reports_to_nobody(tmp_path: Path) -> None:
    """OpenVINO tells Google Analytics of imports and conversions, and leaves a number in the home folder."""
    program = (
        "import numpy\n"
        "from captionloop.vision.encoder import Encoder, EncoderSpec\n"
        "from captionloop.vision.runtimes import make_runtime\n"
        "encoder = Encoder.build(EncoderSpec(architecture='resnet10', input_size=32, layer='layer1'))\n"
        "photo = numpy.zeros((1, 32, 32, 3), numpy.uint8)\n"
        "make_runtime(encoder, device='cpu', engine='openvino').encode(photo)\n"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())


def test_encoders_of_one_fingerprint_are_converted_once(
    encoder: Encoder, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runtime(encoder, device="cpu", engine="openvino").encode(pixels[:1])
    again = Encoder.build(encoder.spec, encoder.weights())
    monkeypatch.setattr(again.module, "forward", lambda _: pytest.fail("it was traced again"))
    make_runtime(again, device="cpu", engine="openvino").encode(pixels[:1])
