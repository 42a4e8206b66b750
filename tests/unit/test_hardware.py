"""bfloat16 is used only where it works; everywhere else it is float32, and one line in the log."""

import json
import os
import subprocess
import sys

import pytest
import torch

from captionloop import hardware
from captionloop.hardware import bfloat16_is_fast, bfloat16_works, fast_products, precision_here
from captionloop.training.training_parameters import EncoderParameters
from captionloop.vision import runtimes
from captionloop.vision.runtimes import native_precision, usable_precision

CAPTIONING = """
import json, logging, sys
from io import StringIO
import numpy, torch
log = StringIO()
logging.basicConfig(stream=log, format="%(message)s")
from captionloop.captioner.model_config import ShowAndTellConfig, ShowAttendTellConfig
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.training.trainer import _precision
from captionloop.captioner.model_config import DecodingOptions
from captionloop.training.training_parameters import TrainingParameters
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec
from captionloop.vision.runtimes import make_runtime

spec = EncoderSpec(architecture="resnet10", input_size=32, layer="layer1", precision="bfloat16")
encoder, tokenizer = Encoder.build(spec), CaptionTokenizer.train(["a red square"], min_frequency=1)
found = {}
for config in (ShowAttendTellConfig(embedding=16, hidden=16, attention_size=16), ShowAndTellConfig()):
    decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    for method in ("beam", "sample"):
        search = DecodingOptions(method=method, precision="bfloat16", max_length=5)
        captioner = Captioner("old", encoder, decoder, tokenizer, search, device="cpu")
        pixels = numpy.zeros((2, 32, 32, 3), numpy.uint8)
        captions = captioner.caption_grids(captioner.runtime.encode(pixels))
        found[f"{config.kind} {method}"] = len(captions)
for engine in ("openvino", "torch"):
    runtime = make_runtime(encoder, device="cpu", engine=engine)
    runtime.encode(pixels)
    found[engine] = runtime.precision
for asked in ("auto", "bfloat16"):
    found["training " + asked] = _precision(TrainingParameters(precision=asked), "cpu")
print(json.dumps(found | {"log": log.getvalue().splitlines()}))
"""


@pytest.mark.e2e
@pytest.mark.named_use
def test_an_avx2_processor_captions_with_a_model_that_asks_for_bfloat16() -> None:
    """A bundle of another machine: searched and sampled, through both engines, and taught on."""
    old = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CAPTIONING], env=os.environ | old, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    log_lines = found.pop("log")
    assert found == {
        "show_attend_tell beam": 2,
        "show_attend_tell sample": 2,
        "show_and_tell beam": 2,
        "show_and_tell sample": 2,
        "openvino": "float32",
        "torch": "float32",
        "training auto": "32-true",
        "training bfloat16": "32-true",
    }
    about = [line for line in log_lines if "bfloat16" in line]
    assert len(about) == 2
    assert "OpenVINO cannot compute on this machine's processor: it is computed in float32" in about[0]
    assert "PyTorch cannot compute" in about[1]


def test_what_does_not_work_is_asked_for_in_vain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_works", lambda _: False)
    hardware.warn_float32_fallback.cache_clear()
    assert precision_here("bfloat16", "cpu") == "float32"
    with fast_products("bfloat16", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    assert precision_here("float32", "cpu") == "float32"
    assert [record.getMessage().count("bfloat16") for record in caplog.records] == [1]


@pytest.mark.parametrize(("emulated", "expected"), [(False, "bfloat16"), (True, "float32")])
def test_an_old_gpu_does_not_emulate_bfloat16_by_itself(
    monkeypatch: pytest.MonkeyPatch, *, emulated: bool, expected: str
) -> None:
    """`is_bf16_supported` says yes of GPUs that emulate it, many times slower than float32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or not emulated
    )
    for known in (bfloat16_is_fast, bfloat16_works):
        known.cache_clear()
    try:
        assert native_precision("cuda") == expected
        assert precision_here("auto", "cuda") == expected
        assert precision_here("bfloat16", "cuda") == "bfloat16"  # whoever asks for it has it
    finally:
        for known in (bfloat16_is_fast, bfloat16_works):
            known.cache_clear()


def test_trying_it_leaves_the_random_numbers_and_modes_alone() -> None:
    bfloat16_works.cache_clear()
    torch.manual_seed(3)
    with torch.inference_mode():
        bfloat16_works("cpu")
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3), drawn)


def test_what_an_encoder_asks_for_is_what_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that names bfloat16 has the fingerprint of float32 where that is what is computed."""
    parameters = EncoderParameters(architecture="resnet10", input_size=32, precision="bfloat16")
    assert parameters.spec().precision == usable_precision("bfloat16")
    monkeypatch.setattr(runtimes, "_openvino_does_bfloat16", lambda: False)
    assert parameters.spec().precision == "float32"
    assert EncoderParameters(architecture="resnet10", input_size=32).spec().precision == "float32"
