"""Pre-trained models of every kind, tiny and random, obey the laws that our own decoders obey."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import cross_entropy

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

from tiny_pretrained import KINDS, SIDE, TEXTS, make_pretrained

from captionloop.captioner.beam_search import beam_search
from captionloop.captioner.bundle import read_config, verify_bundle
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.decoders.base import BOS, EOS, PackedCaptions
from captionloop.captioner.decoding import decode, greedy
from captionloop.captioner.families import load_encoder
from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.captioner.pretrained import base_model
from captionloop.captioner.pretrained.base_model import find_base, open_base
from captionloop.captioner.pretrained.pretrained_family import open_captioner
from captionloop.captioner.pretrained.subword_tokenizer import OFFSET
from captionloop.errors import BundleError, ConfigurationError
from captionloop.registry.model_version import fingerprint
from captionloop.vision.encoder import IMAGENET_DEVIATION, IMAGENET_MEAN

pytestmark = pytest.mark.integration

GREEDY = DecodingOptions(beam_width=1, alternatives=1, max_length=8)
BEAM = DecodingOptions(beam_width=3, alternatives=2, max_length=7)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A model of each kind."""
    root = tmp_path_factory.mktemp("models")
    return {kind: make_pretrained(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def captioners(folders) -> dict[str, Captioner]:
    return {
        kind: replace(open_captioner(str(folder), kind, BEAM, lora=LoraOptions(rank=2)), device="cpu")
        for kind, folder in folders.items()
    }


def photo(seed: int) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((50, 40), Image.Resampling.NEAREST).save(data, "PNG")
    return data.getvalue()


PHOTOS = [photo(seed) for seed in range(4)]


_SEEN: dict[str, torch.Tensor] = {}


def features_of(captioner: Captioner) -> torch.Tensor:
    """What its tower sees of the photos; computed once."""
    mark = captioner.encoder.fingerprint
    if mark not in _SEEN:
        squares = np.stack([captioner.prepare(image) for image in PHOTOS])
        _SEEN[mark] = torch.from_numpy(captioner.runtime.encode(squares)).float()
    return _SEEN[mark]


def captions_in(captioner: Captioner) -> list[list[int]]:
    return [captioner.tokenizer.encode(text)[:6] for text in TEXTS[:5]]


@every_kind
def test_a_caption_is_what_the_models_own_generation_gives_from_the_pixels(
    kind, captioners, folders, tmp_path
):
    captioner = captioners[kind]
    if kind == "smolvlm":  # of two ends its own search takes the likelier, ours takes both together
        one_end = shutil.copytree(folders[kind], tmp_path / kind)
        config = json.loads((one_end / "generation_config.json").read_text())
        (one_end / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": 5}))
        captioner = replace(open_captioner(str(one_end), kind, BEAM), device="cpu")
    base, decoder = captioner.decoder.base, captioner.decoder
    squares = torch.from_numpy(np.stack([captioner.prepare(image) for image in PHOTOS])).float() / 255
    pixels = ((squares - torch.tensor(base.mean)) / torch.tensor(base.deviation)).permute(0, 3, 1, 2)
    ends, never = list(decoder.text.ends), [token - OFFSET for token in decoder.tokenizer.forbidden_tokens]
    first = [token - OFFSET for token in decoder.tokenizer.blank] + ends
    options = {
        "max_new_tokens": 8, "do_sample": False, "eos_token_id": ends, "begin_suppress_tokens": first,
        "suppress_tokens": [token for token in never if token not in ends], "pad_token_id": 1,
    }  # fmt: skip
    opening = torch.tensor([decoder.text.opening] * len(pixels))
    if kind == "smolvlm":
        options |= {"input_ids": opening, "pixel_values": pixels[:, None]}
    elif kind == "florence2":
        prompt = torch.cat([torch.full((captioner.encoder.regions,), 4), decoder.text.prompt_tokens])
        options |= {"input_ids": prompt.expand(len(pixels), -1), "pixel_values": pixels, "num_beams": 1}
    else:
        options |= {"pixel_values": pixels}
    if kind == "blip":
        del options["eos_token_id"], options["pad_token_id"]  # it gives these itself
    generated = base.model.generate(**options)
    mean, deviation = (torch.tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    features = captioner.encoder.module((squares.permute(0, 3, 1, 2) - mean) / deviation)
    found = greedy(decoder, features, GREEDY)
    begun = len(decoder.text.opening) if kind == "smolvlm" else 1
    for row, (hypothesis,) in zip(generated.tolist(), found, strict=True):
        expected = row[begun:]
        until = next((n for n, token in enumerate(expected) if token in ends), len(expected))
        assert [token - OFFSET for token in hypothesis.tokens] == expected[:until][:8]


@every_kind
def test_teacher_forcing_says_what_step_by_step_says(kind, captioners):
    decoder, features = captioners[kind].decoder, features_of(captioners[kind])[:3]
    captions = captions_in(captioners[kind])
    packed = PackedCaptions.pack(captions, [0, 1, 0, 2, 1])
    with torch.no_grad():
        forced = packed.padded(decoder(features, packed).logits.log_softmax(-1))
        for row in range(packed.rows):
            state = decoder.begin(features[packed.image[row]][None])
            for time, word in enumerate([BOS, *captions[packed.order[row]]]):
                step = decoder.step(torch.tensor([word]), state)
                state = step.state
                permitted = step.log_probs[0].isfinite()
                torch.testing.assert_close(
                    step.log_probs[0][permitted], forced[row, time][permitted], atol=1e-4, rtol=1e-4
                )


@every_kind
def test_a_beam_of_width_one_is_greedy(kind, captioners):
    decoder, features = captioners[kind].decoder, features_of(captioners[kind])
    beam, best = beam_search(decoder, features, GREEDY), greedy(decoder, features, GREEDY)
    assert [one[0].tokens for one in beam] == [one[0].tokens for one in best]


@every_kind
def test_images_captioned_together_get_what_they_get_alone_in_any_order(kind, captioners):
    decoder, features = captioners[kind].decoder, features_of(captioners[kind])
    together = beam_search(decoder, features, BEAM)
    backwards = beam_search(decoder, features.flip(0), BEAM)[::-1]
    for image in range(len(features)):
        (alone,) = beam_search(decoder, features[image : image + 1], BEAM)
        for one, many, reverse in zip(alone, together[image], backwards[image], strict=True):
            assert one.tokens == many.tokens == reverse.tokens
            np.testing.assert_allclose(one.attention, many.attention, atol=1e-5)


@every_kind
@pytest.mark.parametrize("width", [1, 3])
def test_log_probabilities_are_those_of_the_whole_caption(kind, width, captioners):
    decoder, features = captioners[kind].decoder, features_of(captioners[kind])
    options = DecodingOptions(beam_width=width, alternatives=width, max_length=6)
    for image, found in enumerate(decode(decoder, features, options)):
        packed = PackedCaptions.pack([one.tokens for one in found], [0] * len(found))
        with torch.no_grad():
            log_probs = decoder(features[image][None], packed).logits.log_softmax(-1)
        each = log_probs.gather(1, packed.targets[:, None])[:, 0]
        rows = torch.zeros(len(found)).index_add_(0, packed.row, each)
        expected = torch.empty_like(rows).index_copy_(0, packed.order, rows)
        assert [one.log_probability for one in found] == pytest.approx(expected.tolist(), abs=1e-3)


@every_kind
def test_captions_are_never_empty_and_their_words_join(kind, captioners):
    for width in (1, 3):
        for captioned in captioners[kind].caption(PHOTOS, BEAM.model_copy(update={"beam_width": width})):
            best = captioned.best
            assert best.text.strip()
            assert " ".join(word.text for word in best.words) == best.text
            assert all(0 <= word.confidence <= 1 for word in best.words)
            rows = {"smolvlm": 2}.get(kind, 4)
            for word in best.words:
                assert word.attention.shape == (rows, rows)
                assert word.attention.sum() == pytest.approx(1, abs=1e-4)


@every_kind
@settings(max_examples=20)
@given(data=st.data())
def test_tokens_become_the_words_of_their_text_and_every_word_has_tokens(kind, data, captioners):
    tokenizer = captioners[kind].tokenizer
    ids = st.integers(OFFSET, tokenizer.vocabulary_size - 1).filter(
        lambda token: token not in tokenizer.forbidden_tokens
    )
    tokens = data.draw(st.lists(ids, max_size=8))
    spans = tokenizer.spans(tokens)
    text = tokenizer._own.decode([token - OFFSET for token in tokens], clean_up_tokenization_spaces=False)
    assert "".join(span.word for span in spans) == "".join(text.split())
    assert all(0 <= span.start < span.stop <= len(tokens) for span in spans)
    assert [span.start for span in spans] == sorted(span.start for span in spans)


@every_kind
def test_a_caption_begins_with_what_has_a_word(kind, captioners):
    """Metrics see no punctuation: a caption of `!` alone was empty to them, though not to people."""
    tokenizer = captioners[kind].decoder.tokenizer
    first = set(range(OFFSET, tokenizer.vocabulary_size)) - {*tokenizer.blank, *tokenizer.forbidden_tokens}
    assert first and all(tokenizer.decode([token]) for token in first)


@every_kind
def test_the_words_of_a_text_come_back_from_its_tokens(kind, captioners):
    tokenizer = captioners[kind].tokenizer
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.split(text)


@every_kind
def test_what_was_cached_gives_the_loss_and_gradients_that_pixels_give(kind, captioners):
    captioner = captioners[kind]
    squares = np.stack([captioner.prepare(image) for image in PHOTOS])
    packed = PackedCaptions.pack(captions_in(captioner)[:4], range(4))
    mean, deviation = (
        torch.tensor(value).view(1, 3, 1, 1) * 255 for value in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    pixels = (torch.from_numpy(squares).permute(0, 3, 1, 2).float() - mean) / deviation
    found = []
    for features in (features_of(captioner), captioner.encoder.module(pixels)):
        decoder = build_decoder(
            captioner.decoder.config, vocabulary_size=captioner.decoder.vocabulary_size,
            channels=captioner.encoder.channels,
        )  # fmt: skip
        loss = cross_entropy(decoder(features, packed).logits, packed.targets)
        loss.backward()
        found.append((loss.detach(), [w.grad for w in decoder.parameters() if w.grad is not None]))
    (cached, gradients), (seen, others) = found
    torch.testing.assert_close(cached, seen, atol=1e-3, rtol=1e-4)
    assert len(gradients) == len(others) > 0
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)


@every_kind
def test_an_adaptation_changes_nothing_until_it_learns_and_is_all_that_is_kept(kind, captioners, folders):
    captioner = captioners[kind]
    plain = open_captioner(str(folders[kind]), kind, BEAM, lora=None)
    features = features_of(captioner)
    for one, other in zip(
        greedy(captioner.decoder, features, GREEDY), greedy(plain.decoder, features, GREEDY), strict=True
    ):
        assert one[0].tokens == other[0].tokens
    decoder = build_decoder(
        captioner.decoder.config, vocabulary_size=captioner.decoder.vocabulary_size,
        channels=captioner.encoder.channels,
    )  # fmt: skip
    kept = decoder.state_dict()
    assert kept and all("lora_" in name for name in kept)
    assert set(kept) == {name for name, weight in decoder.named_parameters() if weight.requires_grad}
    packed = PackedCaptions.pack(captions_in(captioner)[:4], range(4))
    optimizer = torch.optim.AdamW(
        [weight for weight in decoder.parameters() if weight.requires_grad], lr=0.05
    )
    losses = []
    for _ in range(12):
        loss = cross_entropy(decoder.train()(features, packed).logits, packed.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    other = build_decoder(decoder.config, vocabulary_size=decoder.vocabulary_size, channels=decoder.channels)
    other.load_state_dict(decoder.state_dict())
    first, second = (greedy(each.eval(), features, GREEDY) for each in (decoder, other))
    assert [one[0].tokens for one in first] == [one[0].tokens for one in second]


@every_kind
def test_captioners_on_one_base_share_its_weights(kind, folders):
    one, other = (
        open_captioner(str(folders[kind]), name, BEAM, lora=LoraOptions(rank=2)).decoder for name in "ab"
    )
    frozen = {weight.data_ptr() for weight in one.parameters() if not weight.requires_grad}
    assert frozen == {weight.data_ptr() for weight in other.parameters() if not weight.requires_grad}
    learning = {weight.data_ptr() for weight in one.parameters() if weight.requires_grad}
    assert learning.isdisjoint(weight.data_ptr() for weight in other.parameters())


@every_kind
@pytest.mark.parametrize("lora", [LoraOptions(rank=2), None], ids=["lora", "all"])
def test_a_bundle_gives_back_the_captioner(kind, lora, folders, tmp_path):
    captioner = open_captioner(str(folders[kind]), kind, BEAM, lora=lora)
    with torch.no_grad():
        for name, weight in captioner.decoder.named_parameters():
            if weight.requires_grad and "lora" in name:
                weight.add_(torch.randn_like(weight) * 0.3)
    captioner.save(tmp_path / "bundle")
    loaded = Captioner.load(tmp_path / "bundle", device="cpu")
    features = features_of(captioner)
    captions = [one.best.text for one in captioner.caption_grids(features)]
    assert [one.best.text for one in loaded.caption_grids(features)] == captions
    assert loaded.encoder.fingerprint == captioner.encoder.fingerprint
    assert read_config(tmp_path / "bundle").decoder.base.files["model.safetensors"]
    assert not (tmp_path / "bundle" / "base").exists()
    loaded.save(tmp_path / "again")
    assert fingerprint(tmp_path / "again") == fingerprint(tmp_path / "bundle")


def test_an_encoder_is_saved_and_loaded_by_its_family(captioners, tmp_path):
    captioners["blip"].encoder.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded == captioners["blip"].encoder
    assert not loaded.trainable


def test_a_bundle_may_carry_its_base(folders, tmp_path):
    source = shutil.copytree(folders["git"], tmp_path / "source")
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")  # a base of its own
    captioner = open_captioner(str(source), "git", BEAM, lora=LoraOptions(rank=2), carries_base=True)
    captions = [one.best.text for one in captioner.caption(PHOTOS)]
    captioner.save(tmp_path / "bundle")
    base_model._OPEN.pop(captioner.decoder.base.reference.digest)
    shutil.rmtree(source)
    loaded = Captioner.load(tmp_path / "bundle")
    assert [one.best.text for one in loaded.caption(PHOTOS)] == captions
    assert loaded.carries_base
    (tmp_path / "bundle/base/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BundleError, match=r"model.safetensors is damaged"):
        verify_bundle(tmp_path / "bundle")


def test_a_base_that_is_gone_or_another_one_is_told_in_a_line(folders, tmp_path):
    source = shutil.copytree(folders["git"], tmp_path / "source")
    (source / "config.json").write_text((source / "config.json").read_text() + " \n")
    captioner = open_captioner(str(source), "git", BEAM, lora=LoraOptions(rank=2))
    captioner.save(tmp_path / "bundle")
    base_model._OPEN.pop(captioner.decoder.base.reference.digest)
    del captioner
    (source / "config.json").write_text((source / "config.json").read_text() + " ")
    with pytest.raises(BundleError, match=r"config.json is not the file that the bundle refers to"):
        Captioner.load(tmp_path / "bundle")
    shutil.rmtree(source)
    with pytest.raises(BundleError, match="there is no folder of this name"):
        Captioner.load(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "encoder.safetensors", "lineage.json"])
def test_a_damaged_file_is_refused(name, captioners, tmp_path):
    captioners["blip"].save(tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with pytest.raises(BundleError, match=name):
        Captioner.load(tmp_path / "bundle")


def test_pickles_are_not_read(folders, tmp_path):
    shutil.copytree(folders["blip"], tmp_path / "old", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, tmp_path / "old/pytorch_model.bin")
    with pytest.raises(BundleError, match=r"pytorch_model.bin.*only safetensors are read") as error:
        find_base(str(tmp_path / "old"))
    assert "\n" not in str(error.value)


def test_a_model_of_the_hub_needs_its_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="<hub id>@<revision>"):
        find_base("some/model")


def test_other_architectures_and_files_without_pixels_are_refused_in_a_line(folders, tmp_path):
    other = shutil.copytree(folders["blip"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(BundleError, match="type 'vit' does not caption here"):
        open_base(find_base(str(other)))
    silent = shutil.copytree(folders["blip"], tmp_path / "silent")
    (silent / "preprocessor_config.json").unlink()
    with pytest.raises(BundleError, match="image_mean"):
        open_base(find_base(str(silent)))


def test_the_extra_is_named_where_it_is_not_installed(captioners, tmp_path, monkeypatch):
    captioners["blip"].save(tmp_path / "bundle")
    monkeypatch.setattr(base_model, "_OPEN", {})
    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BundleError, match=r"captionloop\[transformers\]"):
        Captioner.load(tmp_path / "bundle")


def test_targets_that_no_layer_has_are_refused(folders):
    with pytest.raises(ConfigurationError, match="nowhere"):
        open_captioner(str(folders["blip"]), "x", BEAM, lora=LoraOptions(targets=("nowhere",)))


def test_the_picture_of_attention_is_the_grid_alone(captioners):
    tower = captioners["blip"].encoder
    assert (tower.regions, tower.before) == (17, 1)
    weights = np.arange(17, dtype=np.float32)
    picture = tower.picture(weights)
    assert picture.shape == (4, 4)
    assert picture.sum() == pytest.approx(1)
    assert picture[0, 0] == pytest.approx(1 / weights[1:].sum())
    assert tower.spec.input_size == SIDE


def test_signs_stand_where_people_put_them(captioners):
    tokenizer = captioners["blip"].tokenizer
    spans = tokenizer.spans(tokenizer.encode("a man's hat, on the green grass"))
    assert [span.word for span in spans] == ["a", "man's", "hat,", "on", "the", "green", "grass"]
    assert spans[1].stop - spans[1].start >= 3


def test_a_captions_end_is_whatever_ends_one(captioners):
    decoder = captioners["smolvlm"].decoder
    assert len(decoder.text.ends) == 2
    logits = torch.randn(1, decoder.vocabulary_size - OFFSET)
    ours = decoder._ours(logits).log_softmax(-1)
    ends = logits.log_softmax(-1)[0, list(decoder.text.ends)].logsumexp(0)
    torch.testing.assert_close(ours[0, EOS], ends)
