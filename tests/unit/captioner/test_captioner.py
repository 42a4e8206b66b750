import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from captionloop.captioner.architectures import ShowAndTellConfig, ShowAttendTellConfig
from captionloop.captioner.bundle import CHECKSUMS, FILES, read_config
from captionloop.captioner.captioner import Calibration, Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.hypotheses import Hypothesis
from captionloop.captioner.options import DecodingOptions
from captionloop.datasets.captioner import CaptionerDataset
from captionloop.errors import BundleError, ImageError
from captionloop.language.languages import language_of
from captionloop.language.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec


def captioner_of(config, name: str = "little") -> Captioner:
    torch.manual_seed(0)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    tokenizer = CaptionTokenizer.train(["a red ball and a blue box", "the man's dog"])
    decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    return Captioner(
        name,
        encoder,
        decoder,
        tokenizer,
        decoding=DecodingOptions(beam_width=3, alternatives=2, max_length=5),
        calibration=Calibration(probability=(0.0, 1.0), confidence=(0.0, 0.5)),
        metrics={"CIDEr": 0.5},
        lineage={"git_commit": None},
        device="cpu",
    )


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return captioner_of(ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8))


@pytest.fixture
def bundle(captioner, tmp_path):
    captioner.save(tmp_path / "bundle")
    return tmp_path / "bundle"


def photo(colour: str, size: tuple[int, int] = (90, 60)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


def test_photos_become_captions_with_words_confidences_and_places(captioner):
    red, blue = captioner.caption([photo("red"), photo("blue")])
    assert len(red.alternatives) == len(blue.alternatives) == 2
    best = red.best
    assert best.text.split()
    assert all(0 <= word.confidence <= 1 for word in best.words)
    encoder = captioner.encoder
    for word in best.words:
        assert word.attention.shape == (encoder.rows, encoder.columns)
        assert word.attention.sum() == pytest.approx(1, abs=1e-4)
    assert best.confidence == pytest.approx(np.exp(np.mean([np.log(word.confidence) for word in best.words])))


def test_squares_and_photos_get_the_same_captions(captioner):
    photos = [photo("red"), photo("green")]
    squares = np.stack([captioner.prepare(one) for one in photos])
    assert squares.shape == (2, 64, 64, 3)
    texts = [one.best.text for one in captioner.caption(photos)]
    assert [one.best.text for one in captioner.caption_arrays(squares)] == texts
    grids = captioner.runtime.encode(squares)
    assert [one.best.text for one in captioner.caption_grids(grids)] == texts


def test_no_photos_get_no_captions(captioner):
    assert captioner.caption([]) == []
    assert captioner.caption_grids(np.zeros((0, captioner.encoder.regions, captioner.encoder.channels))) == []


def test_what_is_no_photo_is_an_image_error(captioner):
    with pytest.raises(ImageError):
        captioner.caption([photo("red"), b"no photo"])


def test_a_search_can_be_asked_for_at_each_call(captioner):
    (captioned,) = captioner.caption(
        [photo("red")], DecodingOptions(beam_width=1, max_length=2, min_length=2)
    )
    assert len(captioned.alternatives) == 1
    assert len(captioned.best.words) == 2


def test_confidence_is_calibrated_where_a_calibration_is_known(captioner):
    grids = np.zeros((1, captioner.encoder.regions, captioner.encoder.channels), np.float16)
    (calibrated,) = captioner.caption_grids(grids)
    captioner_without = captioner_of(captioner.decoder.config)
    captioner_without.decoder.load_state_dict(captioner.decoder.state_dict())
    captioner_without.calibration = None
    (raw,) = captioner_without.caption_grids(grids)
    for one, other in zip(calibrated.best.words, raw.best.words, strict=True):
        assert one.confidence == pytest.approx(other.confidence / 2)


@pytest.mark.parametrize(
    "points", [((0.0, 1.0), (0.5,)), ((), ()), ((0.5, 0.2), (0.1, 0.2)), ((0.1, 0.2), (0.9, 0.3))]
)
def test_a_calibration_that_does_not_rise_is_refused(points):
    with pytest.raises(ValueError, match="calibration"):
        Calibration(probability=points[0], confidence=points[1])


@pytest.mark.parametrize(
    "config",
    [ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8), ShowAndTellConfig(embedding=8, hidden=8)],
)
def test_a_bundle_holds_the_whole_captioner(config, tmp_path):
    saved = captioner_of(config)
    saved.save(tmp_path / "bundle")
    loaded = Captioner.load(tmp_path / "bundle", device="cpu")
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == sorted([*FILES, CHECKSUMS])
    squares = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    for one, other in zip(saved.caption_arrays(squares), loaded.caption_arrays(squares), strict=True):
        assert one.best.text == other.best.text
        assert one.best.log_probability == other.best.log_probability
    for attribute in ("name", "decoding", "calibration", "metrics", "lineage"):
        assert getattr(saved, attribute) == getattr(loaded, attribute)
    assert loaded.encoder.fingerprint == saved.encoder.fingerprint
    assert loaded.tokenizer.words == saved.tokenizer.words


def test_equal_captioners_are_equal_files(captioner, bundle, tmp_path):
    Captioner.load(bundle, device="cpu").save(tmp_path / "again")
    for name in (*FILES, CHECKSUMS):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes(), name


@pytest.mark.parametrize("name", [*FILES, CHECKSUMS])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_byte_anywhere_is_found_and_its_file_named(bundle, name, where):
    content = bytearray((bundle / name).read_bytes())
    place = int(where * (len(content) - 1))
    content[place] ^= 0x01
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=name if name != CHECKSUMS else "damaged|missing") as error:
        Captioner.load(bundle)
    assert "\n" not in str(error.value)


def test_every_byte_of_the_checksums_matters(bundle):
    path = bundle / CHECKSUMS
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        with pytest.raises(BundleError):
            Captioner.load(bundle)


@pytest.mark.parametrize("name", [*FILES, CHECKSUMS])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        Captioner.load(bundle)


def test_where_there_is_no_bundle_that_is_said(tmp_path):
    with pytest.raises(BundleError, match="no bundle here"):
        Captioner.load(tmp_path / "absent")


def rewrite(bundle, name: str, old: str, new: str) -> None:
    """A change with correct checksums: what another version of captionloop, or a person, may have done."""
    import hashlib

    before = (bundle / name).read_bytes()
    after = before.replace(old.encode(), new.encode())
    assert before != after
    (bundle / name).write_bytes(after)
    sums = (bundle / CHECKSUMS).read_text()
    digests = [hashlib.sha256(content).hexdigest() for content in (before, after)]
    (bundle / CHECKSUMS).write_text(sums.replace(*digests))


def test_a_bundle_of_a_newer_format_is_refused(bundle):
    rewrite(bundle, "config.json", '"format_version": 2', '"format_version": 99')
    with pytest.raises(BundleError, match="newer"):
        Captioner.load(bundle)


def test_a_decoder_that_is_not_known_is_refused_in_one_line(bundle):
    rewrite(bundle, "config.json", '"kind": "show_attend_tell"', '"kind": "mind_reader"')
    with pytest.raises(BundleError, match="decoder") as error:
        read_config(bundle)
    assert "\n" not in str(error.value)


def test_weights_of_another_size_are_refused_in_one_line(bundle):
    rewrite(bundle, "config.json", '"hidden": 8', '"hidden": 9')
    with pytest.raises(BundleError, match="do not fit") as error:
        Captioner.load(bundle)
    assert "\n" not in str(error.value)


def test_the_catalog_sees_a_captioner_only_when_it_is_whole(captioner, tmp_path):
    dataset = CaptionerDataset(filepath=str(tmp_path / "models" / "little"))
    assert not dataset.exists()
    dataset.save(captioner)
    assert dataset.exists()
    assert dataset.load().name == "little"
    dataset.save(captioner)  # in the place of the old one
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["little"]


def french() -> Captioner:
    texts = ["l'objet dans l'herbe", "un ballon d'enfant"]
    captioner = captioner_of(ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8))
    tokenizer = CaptionTokenizer.train(texts, language=language_of("fr"))
    decoder = build_decoder(
        captioner.decoder.config,
        vocabulary_size=tokenizer.vocabulary_size,
        channels=captioner.encoder.channels,
    )
    return replace(captioner, tokenizer=tokenizer, decoder=decoder)


def test_a_bundle_keeps_its_language_and_writes_it_as_people_do(tmp_path):
    captioner = french()
    captioner.save(tmp_path / "bundle")
    loaded = Captioner.load(tmp_path / "bundle")
    assert loaded.tokenizer.language.code == "fr"
    ids = loaded.tokenizer.encode("L'objet dans l’herbe")
    hypothesis = Hypothesis(tuple(ids), np.zeros(len(ids) + 1, np.float32), None, 0.0)
    said = loaded._caption(hypothesis)
    assert said.text == "l'objet dans l'herbe"
    assert [word.text for word in said.words] == ["l'", "objet", "dans", "l'", "herbe"]
    assert json.loads((tmp_path / "bundle/config.json").read_text())["format_version"] == 3


def test_an_english_bundle_is_written_as_it_was_before_there_were_languages(bundle):
    config = json.loads((bundle / "config.json").read_text())
    assert "language" not in config
    assert config["format_version"] == 2
    assert Captioner.load(bundle).tokenizer.language.code == "en"
