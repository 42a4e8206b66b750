"""What a model needs is told before it is loaded, and refused where there is less."""

from functools import partial
from pathlib import Path

import pytest
from safetensors import safe_open

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

from tiny_pretrained import make_pretrained

from captionloop import hardware
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import DecodingOptions, LoraOptions, ShowAttendTellConfig
from captionloop.captioner.model_memory import load_where_it_fits, needed_memory, refuse_too_large
from captionloop.captioner.pretrained import base_model
from captionloop.captioner.pretrained.pretrained_family import open_captioner
from captionloop.errors import BundleError
from captionloop.registry.signing import Signing
from captionloop.serving.engine import Engine
from captionloop.serving.model_sources import FolderSource
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec

DECODING = DecodingOptions(beam_width=3, alternatives=2, max_length=8)
GENEROUS = 1 << 40


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Of a pre-trained captioner, whose base this process holds no more."""
    model = make_pretrained("blip", tmp_path / "somebodys", seed=7)
    open_captioner(str(model), "theirs", DECODING, lora=LoraOptions(rank=2)).save(tmp_path / "theirs")
    base_model._OPEN.clear()
    return tmp_path / "theirs"


def limit(folder: Path, monkeypatch: pytest.MonkeyPatch, most: int, used: int = 0) -> None:
    """A container that may take so many bytes, of which so many are taken, and 100 by files."""
    folder.mkdir(exist_ok=True)
    for name, value in (("max", most), ("current", used), ("stat", "anon 1\ninactive_file 100\nfile 7")):
        (folder / f"memory.{name}").write_text(f"{value}\n")
    monkeypatch.setattr(hardware, "_CONTAINER", folder)


def weights_in(file: Path) -> int:
    with safe_open(file, "pt") as opened:
        return sum(opened.get_tensor(name).numel() for name in opened.keys())  # noqa: SIM118


def test_weights_are_counted_as_they_lie_in_the_files(bundle: Path) -> None:
    need = needed_memory(bundle)
    assert need.base == 4 * weights_in(bundle.parent / "somebodys/model.safetensors")
    own = weights_in(bundle / "model.safetensors") + weights_in(bundle / "encoder.safetensors")
    assert need.learnt == 4 * own < need.base
    assert 0 < need.tower < need.base
    assert needed_memory(bundle, batch=32).batch == 2 * needed_memory(bundle).batch > 0
    assert f"{need}".startswith("about ") and "base" in f"{need}"


def test_a_model_that_is_trained_here_has_no_base(tmp_path: Path) -> None:
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    tokenizer = CaptionTokenizer.train(["a red ball and a blue box"])
    sizes = ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8)
    decoder = build_decoder(sizes, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    Captioner("ours", encoder, decoder, tokenizer, DECODING).save(tmp_path / "ours")
    need = needed_memory(tmp_path / "ours")
    assert need.base == 0 and need.tower == 4 * weights_in(tmp_path / "ours/encoder.safetensors")
    assert "base" not in f"{need}"


def test_what_a_container_leaves_is_what_it_may_take_but_for_what_is_taken(tmp_path, monkeypatch) -> None:
    limit(tmp_path / "group", monkeypatch, 1000, 400)
    assert hardware.available_memory() == 700
    (tmp_path / "group/memory.max").write_text("max\n")
    whole = hardware.available_memory()
    assert whole is None or whole > 10**6


def test_the_model_server_says_in_a_line_what_does_not_fit(bundle, tmp_path, monkeypatch) -> None:
    limit(tmp_path / "group", monkeypatch, 200_000)
    load = partial(load_where_it_fits, streams=1, batch=4)
    engine = Engine(FolderSource(bundle, Signing()), load, max_batch=4)
    engine.refresh()
    description = engine.describe()
    assert not description.ready and "\n" not in description.reason
    assert "needs about" in description.reason and "0 MB are free" in description.reason
    assert "CAPTIONLOOP_MAX_BATCH" in description.reason
    limit(tmp_path / "group", monkeypatch, GENEROUS)
    engine = Engine(FolderSource(bundle, Signing()), load, max_batch=4)
    engine.refresh()
    assert engine.describe().ready


def test_a_base_that_is_open_is_not_needed_again(bundle, tmp_path, monkeypatch) -> None:
    need = needed_memory(bundle, batch=4)
    limit(tmp_path / "group", monkeypatch, need.total - need.base)
    with pytest.raises(BundleError, match="needs about"):
        refuse_too_large(bundle, batch=4)
    held = Captioner.load(bundle, device="cpu")
    refuse_too_large(bundle, batch=4)
    del held


def test_a_base_in_the_project_is_found_from_anywhere(tmp_path, monkeypatch) -> None:
    (tmp_path / "project/data").mkdir(parents=True)
    make_pretrained("blip", tmp_path / "project/data/somebodys", seed=8)
    monkeypatch.chdir(tmp_path / "project")
    open_captioner("data/somebodys", "theirs", DECODING).save(tmp_path / "theirs")
    monkeypatch.chdir(tmp_path)
    base_model._OPEN.clear()
    with pytest.raises(BundleError, match="there is no folder of this name"):
        needed_memory(tmp_path / "theirs")
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", str(tmp_path / "project"))
    assert Captioner.load(tmp_path / "theirs", device="cpu").name == "theirs"
