import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from captionloop.captioner import bundle as bundles
from captionloop.captioner.beam_search import Hypothesis
from captionloop.captioner.bundle import CHECKSUMS, FAMILIARITY, FILES, NEIGHBOURS, read_config
from captionloop.captioner.captioner import Calibration, Captioner
from captionloop.captioner.consensus import NeighbourIndex
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import (
    ConsensusOptions,
    DecodingOptions,
    ShowAndTellConfig,
    ShowAttendTellConfig,
)
from captionloop.datasets.model_datasets import CaptionerDataset
from captionloop.errors import BundleError, EncoderError, ImageError
from captionloop.languages import language_of
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.embedding import Familiarity
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


@pytest.mark.integration
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


def remembering(captioner: Captioner) -> Captioner:
    channels = captioner.encoder.channels
    neighbours = NeighbourIndex(
        centre=np.zeros(channels, np.float32),
        projection=np.ones((channels, 2), np.float32),
        directions=np.eye(2, dtype=np.float16),
        captions=(((4, 5),), ((6,),)),
    )
    decoding = captioner.decoding.model_copy(update={"consensus": ConsensusOptions()})
    return replace(captioner, neighbours=neighbours, decoding=decoding)


def test_neighbours_are_listed_and_verified_like_every_file(captioner, tmp_path):
    remembering(captioner).save(tmp_path / "bundle")
    assert NEIGHBOURS in json.loads((tmp_path / "bundle" / CHECKSUMS).read_text())
    assert Captioner.load(tmp_path / "bundle", device="cpu").neighbours is not None
    path = tmp_path / "bundle" / NEIGHBOURS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"neighbours\.safetensors is damaged"):
        Captioner.load(tmp_path / "bundle")
    path.unlink()
    with pytest.raises(BundleError, match=r"neighbours\.safetensors is missing"):
        Captioner.load(tmp_path / "bundle")


def test_neighbours_that_are_not_listed_are_refused_and_not_read(captioner, bundle, tmp_path):
    remembering(captioner).save(tmp_path / "other")
    (bundle / NEIGHBOURS).write_bytes((tmp_path / "other" / NEIGHBOURS).read_bytes())
    with pytest.raises(BundleError, match=r"neighbours.safetensors is not listed in checksums.json") as error:
        Captioner.load(bundle)
    assert "\n" not in str(error.value)


def unlist(bundle) -> None:
    """As if the bundle had been written without neighbours."""
    sums = json.loads((bundle / CHECKSUMS).read_text())
    del sums[NEIGHBOURS]
    (bundle / CHECKSUMS).write_bytes(bundles._document(sums))
    (bundle / NEIGHBOURS).unlink()


def test_a_bundle_that_asks_for_a_consensus_and_has_no_neighbours_is_refused(captioner, tmp_path):
    remembering(captioner).save(tmp_path / "bundle")
    unlist(tmp_path / "bundle")
    with pytest.raises(BundleError, match="asks for a consensus"):
        Captioner.load(tmp_path / "bundle")


def test_neighbours_that_are_no_numbers_or_of_another_encoder_are_refused(captioner, tmp_path):
    valid = remembering(captioner)
    for broken in (np.full_like(valid.neighbours.centre, np.nan), np.zeros(3, np.float32)):
        replace(valid, neighbours=replace(valid.neighbours, centre=broken)).save(tmp_path / "bundle")
        with pytest.raises(BundleError, match=r"neighbours\.safetensors is not what this captionloop reads"):
            Captioner.load(tmp_path / "bundle")


def knowing(captioner: Captioner) -> Captioner:
    """With what it learnt from, and how often its captions are accepted."""
    looks = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    calibration = captioner.calibration.model_copy(update={"sureness": (0.0, 1.0), "accepted": (0.0, 0.25)})
    return replace(captioner, familiarity=Familiarity.learn(looks[:30], looks[30:]), calibration=calibration)


def test_a_captioner_tells_what_is_unlike_anything_it_learnt_from(captioner):
    grids = np.zeros((2, captioner.encoder.regions, captioner.encoder.channels), np.float32)
    grids[1] = 1000
    assert [one.familiarity for one in captioner.caption_grids(grids)] == [None, None]
    near, far = knowing(captioner).caption_grids(grids)
    assert near.familiarity.familiar and near.familiarity.share > 0
    assert not far.familiarity.familiar and far.familiarity.share == 0


def test_familiarity_and_acceptance_are_kept_listed_and_verified(captioner, tmp_path):
    knowing(captioner).save(tmp_path / "bundle")
    assert FAMILIARITY in json.loads((tmp_path / "bundle" / CHECKSUMS).read_text())
    assert json.loads((tmp_path / "bundle/config.json").read_text())["format_version"] == 4
    loaded = Captioner.load(tmp_path / "bundle", device="cpu")
    looks = np.random.default_rng(1).normal(size=(9, 32)).astype(np.float32)
    assert loaded.familiarity(looks) == knowing(captioner).familiarity(looks)
    assert loaded.calibration.of_caption([1.0]) == pytest.approx(0.25)
    path = tmp_path / "bundle" / FAMILIARITY
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"familiarity\.safetensors is damaged"):
        Captioner.load(tmp_path / "bundle")
    path.unlink()
    with pytest.raises(BundleError, match=r"familiarity\.safetensors is missing"):
        Captioner.load(tmp_path / "bundle")


def test_familiarity_that_is_not_listed_is_refused_and_not_read(captioner, bundle, tmp_path):
    knowing(captioner).save(tmp_path / "other")
    (bundle / FAMILIARITY).write_bytes((tmp_path / "other" / FAMILIARITY).read_bytes())
    with pytest.raises(BundleError, match=r"familiarity.safetensors is not listed in checksums.json"):
        Captioner.load(bundle)


def test_familiarity_that_is_no_numbers_or_of_other_embeddings_is_refused(captioner, tmp_path):
    valid = knowing(captioner)
    for broken in (np.full((3, 32), np.nan, np.float16), np.zeros((3, 31), np.float16)):
        replace(valid, familiarity=replace(valid.familiarity, training=broken)).save(tmp_path / "bundle")
        with pytest.raises(BundleError, match=r"familiarity\.safetensors is not what this captionloop reads"):
            Captioner.load(tmp_path / "bundle")


def test_a_bundle_of_the_first_format_is_read(bundle):
    rewrite(bundle, "config.json", '"format_version": 2', '"format_version": 1')
    loaded = Captioner.load(bundle, device="cpu")
    assert loaded.neighbours is None and loaded.familiarity is None
    assert not loaded.calibration.calibrates_captions


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_written_nor_read(captioner, bundle, value):
    broken = captioner_of(captioner.decoder.config)
    next(iter(broken.decoder.parameters())).data.view(-1)[3] = value
    before = (bundle / CHECKSUMS).read_bytes()
    with pytest.raises(BundleError, match="the weights are not finite"):
        broken.save(bundle)
    assert (bundle / CHECKSUMS).read_bytes() == before
    from safetensors.torch import load_file, save_file

    weights = load_file(bundle / "model.safetensors")
    next(iter(weights.values())).view(-1)[3] = value
    save_file(weights, bundle / "model.safetensors")
    list_again(bundle)
    with pytest.raises(BundleError, match="the weights are not finite") as error:
        Captioner.load(bundle)
    assert "\n" not in str(error.value)


def test_an_encoder_whose_weights_are_no_numbers_is_refused(captioner, bundle, tmp_path):
    weights = captioner.encoder.weights()
    weights["conv1.weight"] = torch.full_like(weights["conv1.weight"], torch.nan)
    broken = Encoder.build(captioner.encoder.spec, weights)
    with pytest.raises(EncoderError, match=r"not finite .*conv1.weight"):
        broken.save(tmp_path / "encoder")
    from safetensors.torch import save_file

    header = {"encoder": captioner.encoder.spec.model_dump_json()}
    save_file(weights, bundle / "encoder.safetensors", header)
    list_again(bundle)
    with pytest.raises(BundleError, match="not finite"):
        Captioner.load(bundle)


def list_again(bundle) -> None:
    names = json.loads((bundle / CHECKSUMS).read_text())
    (bundle / CHECKSUMS).write_bytes(
        bundles._document({name: bundles._sha256(bundle / name) for name in names})
    )


def test_a_bundle_that_is_replaced_while_it_is_read_is_read_as_one(captioner, bundle, monkeypatch):
    other = captioner_of(ShowAndTellConfig(embedding=8, hidden=8), name="other")
    original, times = bundles.read_config, []

    def replaced(folder):
        found = original(folder)
        if not times:
            other.save(bundle)
        times.append(found.name)
        return found

    monkeypatch.setattr(bundles, "read_config", replaced)
    loaded = Captioner.load(bundle, device="cpu")
    assert times == ["little", "other"]
    assert loaded.name == "other" and loaded.decoder.config.kind == "show_and_tell"


def test_a_calibration_that_is_no_curve_of_numbers_is_refused():
    with pytest.raises(ValueError, match="finite"):
        Calibration(probability=(0.0, float("nan")), confidence=(0.0, 1.0))


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
    caption = loaded._caption(hypothesis)
    assert caption.text == "l'objet dans l'herbe"
    assert [word.text for word in caption.words] == ["l'", "objet", "dans", "l'", "herbe"]
    assert json.loads((tmp_path / "bundle/config.json").read_text())["format_version"] == 3


def test_an_english_bundle_is_written_as_it_was_before_there_were_languages(bundle):
    config = json.loads((bundle / "config.json").read_text())
    assert "language" not in config
    assert config["format_version"] == 2
    assert Captioner.load(bundle).tokenizer.language.code == "en"
