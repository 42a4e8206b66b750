import numpy as np
import pytest
import torch
from corpus_for_tests import MadeUpFeatures, draw_corpus, small_training
from safetensors.torch import load_file

from captionloop.captioner.beam_search import permitted
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.decoders.base import PackedCaptions
from captionloop.captioner.model_config import (
    DecodingOptions,
    EnsembleConfig,
    ShowAndTellConfig,
    ShowAttendTellConfig,
    with_dropout,
)
from captionloop.datasets.mlflow_datasets import histories
from captionloop.errors import ConfigurationError, CorpusError, StoreError, TrainingError
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training import self_critical
from captionloop.training.caption_data import CaptionedPhotos, epoch_batches
from captionloop.training.caption_module import (
    CaptionModule,
    CrossEntropyModule,
    ValidationCider,
    caption_loss,
)
from captionloop.training.self_critical import SelfCriticalModule
from captionloop.training.train_captioner import corpus_digest, train, train_self_critically
from captionloop.training.training_parameters import SelfCriticalParameters
from captionloop.training.training_run import EpochMetrics, TrainingCurves


def weights_of(trained):
    return {name: weight.clone() for name, weight in trained.decoder.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    corpus = draw_corpus()
    folder = tmp_path_factory.mktemp("bench") / "work"
    return train(corpus.images, corpus.captions, corpus.features, small_training(), checkpoints=folder)


class Encoder:
    """All that a warm start asks of an encoder."""

    fingerprint = "0" * 32
    rows, columns = 2, 3


def as_captioner(trained) -> Captioner:
    return Captioner("before", Encoder(), trained.decoder, trained.tokenizer, device="cpu")


def test_training_learns_to_name_what_it_sees(trained):
    curves = trained.curves.to_frame()
    assert list(curves["epoch"]) == [0, 1, 2, 3]
    assert curves["val_loss"].iloc[-1] < 0.7 * curves["val_loss"].iloc[0]
    assert trained.curves.best_cider == curves["val_cider"].max() > 0.3


def test_the_weights_kept_are_those_of_the_best_epoch(trained, corpus):
    val = CaptionedPhotos.from_tables(corpus.images, corpus.captions, "val", trained.tokenizer, max_length=24)
    grids = torch.from_numpy(corpus.features.grids(val.sha256s)).float()
    captioner = as_captioner(trained)
    captions = captioner.decode_grids(grids, captioner.decoding.model_copy(update={"beam_width": 1}))
    cider = ValidationCider(val, trained.tokenizer).cider(
        {i: found[0].tokens for i, found in enumerate(captions)}
    )
    assert cider == pytest.approx(trained.curves.best_cider)


def test_finished_training_is_not_done_again(trained, corpus, tmp_path, monkeypatch):
    settings = small_training(epochs=1)
    first = train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    monkeypatch.setattr(CaptionModule, "training_step", lambda *_: pytest.fail("a step was done again"))
    again = train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    assert same(weights_of(first), weights_of(again))
    assert again.curves == first.curves


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", [3, 9, 20])
def test_killed_training_ends_as_if_it_had_not_been_killed(trained, corpus, tmp_path, monkeypatch, step):
    steps, original = [], CaptionModule.training_step

    def dies(self, batch, number):
        steps.append(number)
        if len(steps) == step:
            raise Killed
        return original(self, batch, number)

    arguments = (corpus.images, corpus.captions, corpus.features, small_training())
    with monkeypatch.context() as patch:
        patch.setattr(CaptionModule, "training_step", dies)
        with pytest.raises(Killed):
            train(*arguments, checkpoints=tmp_path / "work")
    torch.manual_seed(123)  # another process would have other random numbers
    resumed = train(*arguments, checkpoints=tmp_path / "work")
    assert same(weights_of(resumed), weights_of(trained))
    columns = ["epoch", "train_loss", "val_loss", "val_cider", "learning_rate"]
    assert resumed.curves.to_frame()[columns].equals(trained.curves.to_frame()[columns])


def test_other_inputs_start_anew_in_the_same_folder(corpus, tmp_path):
    settings = small_training(epochs=1)
    first = train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    other = settings.model_copy(update={"seed": 1})
    second = train(corpus.images, corpus.captions, corpus.features, other, checkpoints=tmp_path / "work")
    assert not same(weights_of(first), weights_of(second))


def test_training_stops_when_nothing_gets_better(corpus, tmp_path):
    settings = small_training(epochs=30, learning_rate=1e-9, validation={"patience": 2})
    stopped = train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    assert len(stopped.curves.records) == 3


@pytest.mark.parametrize("kind", ["show_and_tell", "transformer"])
def test_every_decoder_can_be_taught(corpus, tmp_path, kind):
    sizes = (
        {"embedding": 16, "hidden": 16} if kind == "show_and_tell" else {"width": 16, "heads": 2, "layers": 1}
    )
    settings = small_training(decoder={"kind": kind, **sizes}, views=["whole", "mirrored"], epochs=2)
    trained = train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    losses = trained.curves.to_frame()["val_loss"]
    assert losses.iloc[1] < losses.iloc[0]


def test_a_warm_start_goes_on_from_what_was_known_and_learns_new_words(trained, corpus, tmp_path):
    captions = corpus.captions.copy()
    captions["text"] = captions["text"].str.replace("ground", "carpet")
    settings = small_training(epochs=1, learning_rate=1e-7)
    start = as_captioner(trained)
    warm = train(
        corpus.images, captions, corpus.features, settings, checkpoints=tmp_path / "work", start=start
    )
    assert warm.tokenizer.words[:-1] == trained.tokenizer.words
    assert warm.tokenizer.words[-1] == "carpet"
    known = warm.decoder.words.vectors[: trained.tokenizer.vocabulary_size]
    torch.testing.assert_close(known, trained.decoder.words.vectors, atol=1e-4, rtol=0)


def test_a_warm_start_may_drop_more_than_before_and_be_nothing_else(trained, corpus, tmp_path):
    start, tables = as_captioner(trained), (corpus.images, corpus.captions, corpus.features)
    config = trained.decoder.config
    more = small_training(epochs=1, decoder=with_dropout(config, 0.5, 0.2).model_dump())
    warm = train(*tables, more, checkpoints=tmp_path / "work", start=start)
    assert (warm.decoder.config.dropout, warm.decoder.config.feature_dropout) == (0.5, 0.2)
    assert warm.decoder.dropout.p == 0.5
    assert start.decoder.config == config
    larger = small_training(decoder=config.model_copy(update={"hidden": 2 * config.hidden}).model_dump())
    with pytest.raises(ConfigurationError, match="another architecture"):
        train(*tables, larger, checkpoints=tmp_path / "work", start=start)


def test_dropout_of_all_members_is_set_and_none_leaves_it():
    single = ShowAndTellConfig(dropout=0.3, feature_dropout=0.1)
    assert with_dropout(single, None, None) == single
    both = with_dropout(EnsembleConfig(members=(single, ShowAttendTellConfig(dropout=0.4))), None, 0.2)
    assert isinstance(both, EnsembleConfig)
    assert [(one.dropout, one.feature_dropout) for one in both.members] == [(0.3, 0.2), (0.4, 0.2)]


def test_a_warm_start_on_features_of_another_encoder_is_refused(trained, corpus, tmp_path):
    start = as_captioner(trained)
    start.encoder = type("Other", (), {"fingerprint": "1" * 32})()
    with pytest.raises(ConfigurationError, match="Warm start"):
        train(
            corpus.images,
            corpus.captions,
            corpus.features,
            small_training(),
            checkpoints=tmp_path / "work",
            start=start,
        )


def test_views_that_are_not_cached_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigurationError, match="upside-down is not cached"):
        settings = small_training(views=["whole", "upside-down"])
        train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")


def test_a_corpus_without_validation_photos_is_refused(corpus, tmp_path):
    images = corpus.images[corpus.images["split"] == "train"]
    with pytest.raises(CorpusError, match="val"):
        train(images, corpus.captions, corpus.features, small_training(), checkpoints=tmp_path / "work")


def test_the_reward_makes_captions_better(trained, corpus, tmp_path):
    settings = SelfCriticalParameters.model_validate(
        {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "samples": 6, "ema_decay": 0.5}
        | {"precision": "float32", "processes": {"accelerator": "cpu"}}
    )
    start = as_captioner(trained)
    after = train_self_critically(
        corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work", start=start
    )
    assert after.curves.best_cider > trained.curves.best_cider
    assert same(
        weights_of(trained), start.decoder.state_dict()
    )  # the captioner it started from is left alone


@pytest.mark.parametrize("baseline", ["greedy", "mean"])
def test_samples_that_earn_what_was_expected_teach_nothing(trained, corpus, baseline, monkeypatch):
    settings = SelfCriticalParameters(batch_size=4, samples=3, baseline=baseline)
    val = CaptionedPhotos.from_tables(
        corpus.images, corpus.captions, "train", trained.tokenizer, max_length=24
    )
    from captionloop.training.caption_data import Batches
    from captionloop.training.caption_module import CaptionData

    data = CaptionData(val, val, corpus.features, ValidationCider(val, trained.tokenizer))
    module = SelfCriticalModule(trained.decoder, data, settings, best_weights=None)
    plan = epoch_batches(val, seed=0, epoch=0, batch_size=4, captions_per_photo=None, views=["whole"])
    batch = next(iter(Batches(val, corpus.features, plan, grids=True)))
    monkeypatch.setattr(
        SelfCriticalModule, "_rewards", lambda _self, _batch, captions, _each: np.ones(len(captions))
    )
    assert module.loss(batch).item() == 0
    monkeypatch.undo()
    drawn, advantage = module._draw(batch)
    assert len(drawn) == len(advantage) == 12
    modes = modes_of(trained.decoder, monkeypatch)
    module.loss(batch)
    assert modes and not any(modes)  # the policy that is differentiated is the one that was drawn from
    assert trained.decoder.training
    if baseline == "mean":
        assert sum(advantage) == pytest.approx(0, abs=1e-4)


def modes_of(decoder, monkeypatch):
    """Whether dropout was on in each step and pass of the decoder from now on."""
    modes = []
    for name in ("forward", "step"):
        monkeypatch.setattr(decoder, name, _noting(getattr(decoder, name), decoder, modes))
    return modes


def _noting(call, decoder, modes):
    def noted(*inputs):
        modes.append(decoder.training)
        return call(*inputs)

    return noted


def test_without_dropout_a_recurrent_decoder_drops_nothing_and_yet_trains():
    """cuDNN refuses the gradients of recurrent layers that are not in training mode."""
    config = ShowAndTellConfig(embedding=8, hidden=8, layers=2, dropout=0.5, feature_dropout=0.5)
    decoder = build_decoder(config, vocabulary_size=9, channels=4).train()
    captions, features = PackedCaptions.pack([[4, 5], [6]], [0, 1]), torch.randn(2, 1, 4)
    with self_critical._without_dropout(decoder):
        assert decoder.lstm.training
        seen = decoder(features, captions).logits
    assert decoder.training and decoder.lstm.dropout == 0.5
    torch.testing.assert_close(seen, decoder.eval()(features, captions).logits)


def test_teaching_by_reward_differentiates_the_probabilities_that_captions_are_drawn_with():
    captions = PackedCaptions.pack([[4, 5], [6]], [0, 0])
    logits = torch.randn(5, 9)
    log_probs = self_critical._sampling_logits(logits, captions).log_softmax(-1)
    messages = torch.tensor([[], []], dtype=torch.int64)
    options = DecodingOptions(method="sample")
    drawn = permitted(logits[:2].clone(), messages, options).log_softmax(-1)
    torch.testing.assert_close(log_probs[:2], drawn)
    later = permitted(logits[2:].clone(), torch.full((3, 1), 4), options).log_softmax(-1)
    torch.testing.assert_close(log_probs[2:], later)


def test_the_end_token_is_part_of_the_reward(trained, corpus):
    train_photos = CaptionedPhotos.from_tables(
        corpus.images, corpus.captions, "train", trained.tokenizer, max_length=24
    )
    from captionloop.training.caption_module import CaptionData

    data = CaptionData(
        train_photos, train_photos, corpus.features, ValidationCider(train_photos, trained.tokenizer)
    )
    module = SelfCriticalModule(trained.decoder, data, SelfCriticalParameters(), best_weights=None)
    whole = train_photos.tokens[0][0]
    batch = type("Batch", (), {"photos": (0, 0)})()
    complete, cut = module._rewards(batch, [whole, whole[:-1]], 1)
    assert complete > cut


def test_a_caption_counts_as_much_as_its_weight():
    captions = [[4, 5], [6, 7]]
    logits = torch.randn(6, 9)
    light = PackedCaptions.pack(captions, [0, 0], [1.0, 1e-9])
    alone = PackedCaptions.pack(captions[:1], [0])
    kept = logits[light.row == 0]
    torch.testing.assert_close(caption_loss(logits, light, 0.0), caption_loss(kept, alone, 0.0))


def photos(corpus) -> CaptionedPhotos:
    tokenizer = CaptionTokenizer.train(corpus.captions["text"])
    return CaptionedPhotos.from_tables(corpus.images, corpus.captions, "train", tokenizer, max_length=4)


@pytest.mark.parametrize("together", [1, 2, 5])
def test_an_epoch_has_every_caption_once(corpus, together):
    plan = epoch_batches(
        photos(corpus), seed=0, epoch=3, batch_size=10, captions_per_photo=together, views=["whole"]
    )
    seen = sorted((share.photo, caption) for batch in plan for share in batch for caption in share.captions)
    assert seen == [(photo, caption) for photo in range(40) for caption in range(3)]
    assert all(len(share.captions) <= together for batch in plan for share in batch)


def test_the_order_is_a_function_of_seed_and_epoch(corpus):
    def plan(seed, epoch):
        return epoch_batches(
            photos(corpus),
            seed=seed,
            epoch=epoch,
            batch_size=9,
            captions_per_photo=3,
            views=["whole", "mirrored"],
        )

    assert plan(1, 2) == plan(1, 2)
    assert plan(1, 2) != plan(1, 3)
    assert plan(1, 2) != plan(2, 2)


def test_long_captions_are_cut(corpus):
    assert {len(caption) for of_photo in photos(corpus).tokens for caption in of_photo} == {3, 4}


def test_the_digest_of_a_corpus_sees_every_word_but_not_the_order_of_rows(corpus):
    digest = corpus_digest(corpus.images, corpus.captions)
    shuffled = corpus.captions.sample(frac=1, random_state=0)
    assert corpus_digest(corpus.images.iloc[::-1], shuffled) == digest
    changed = corpus.captions.copy()
    changed.loc[0, "text"] = "something else"
    assert corpus_digest(corpus.images, changed) != digest


def test_curves_become_histories_for_mlflow(trained):
    history = histories(trained.curves.to_frame())
    assert set(history) == {"train_loss", "val_loss", "val_cider", "learning_rate", "seconds"}
    assert [point["step"] for point in history["val_cider"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training_and_keeps_what_was_good(
    trained, corpus, tmp_path, monkeypatch, broken
):
    steps, original = [], CrossEntropyModule.loss

    def diverges(self, batch):
        steps.append(None)
        return original(self, batch) * (broken if len(steps) > 20 else 1)  # in the third epoch

    arguments = (corpus.images, corpus.captions, corpus.features, small_training())
    with monkeypatch.context() as patch:
        patch.setattr(CrossEntropyModule, "loss", diverges)
        with pytest.raises(TrainingError, match=r"stopped in epoch 3.*learning_rate.*are kept in") as error:
            train(*arguments, checkpoints=tmp_path / "work")
    assert "\n" not in str(error.value)
    best = load_file(tmp_path / "work" / "best.safetensors")
    assert all(weight.isfinite().all() for weight in best.values())
    assert not (tmp_path / "work" / "finished.json").exists()
    resumed = train(*arguments, checkpoints=tmp_path / "work")
    assert same(weights_of(resumed), weights_of(trained))


def test_a_learning_rate_that_blows_the_weights_up_leaves_nothing_behind(corpus, tmp_path):
    settings = small_training(learning_rate=1e30, warmup=0)
    with pytest.raises(TrainingError, match=r"stopped in epoch 1.*no epoch had been finished"):
        train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["inputs.json"]


def test_weights_that_the_last_step_of_an_epoch_breaks_are_not_kept(corpus, tmp_path, monkeypatch):
    def breaks(self, *_):
        self.average.update()
        self.decoder.words.vectors.data[4] = torch.nan

    monkeypatch.setattr(CaptionModule, "on_train_batch_end", breaks)
    settings = small_training(epochs=1, batch_size=10_000)  # one step
    with pytest.raises(TrainingError, match="would be no finite numbers"):
        train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")
    assert not (tmp_path / "work" / "best.safetensors").exists()


def test_a_reward_that_is_no_number_stops_training(trained, corpus, tmp_path, monkeypatch):
    settings = SelfCriticalParameters.model_validate(
        {
            "epochs": 1,
            "batch_size": 8,
            "samples": 2,
            "precision": "float32",
            "processes": {"accelerator": "cpu"},
        }
    )
    monkeypatch.setattr(
        SelfCriticalModule, "_rewards", lambda _self, _batch, captions, _each: np.full(len(captions), np.nan)
    )
    with pytest.raises(TrainingError, match="the loss is nan"):
        train_self_critically(
            corpus.images,
            corpus.captions,
            corpus.features,
            settings,
            checkpoints=tmp_path / "work",
            start=as_captioner(trained),
        )


def test_the_weights_of_the_last_epoch_are_as_little_kept_when_they_are_no_numbers(corpus, tmp_path):
    settings = small_training(learning_rate=1e30, warmup=0)
    with pytest.raises(TrainingError):
        train(
            corpus.images,
            corpus.captions,
            corpus.features,
            settings,
            checkpoints=tmp_path / "work",
            keep_last=True,
        )


def test_an_epoch_whose_cider_is_no_number_is_never_the_best():
    training_curves = TrainingCurves()

    def epoch(number, cider):
        return EpochMetrics(number, 1.0, 1.0, cider, 1e-3, 1.0)

    assert [
        training_curves.add(epoch(n, cider)) for n, cider in enumerate([float("nan"), 0.2, float("nan"), 0.1])
    ] == [
        False,
        True,
        False,
        False,
    ]
    assert (training_curves.best_epoch, training_curves.best_cider) == (1, 0.2)


def test_a_checkpoint_with_weights_that_are_no_numbers_is_not_gone_on_from(
    trained, corpus, tmp_path, monkeypatch, caplog
):
    arguments = (corpus.images, corpus.captions, corpus.features, small_training())
    steps, original = [], CaptionModule.training_step

    def dies(self, batch, number):
        steps.append(number)
        if len(steps) == 12:
            raise Killed
        return original(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(CaptionModule, "training_step", dies)
        with pytest.raises(Killed):
            train(*arguments, checkpoints=tmp_path / "work")
    path = tmp_path / "work" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["average"]["average"].values()))[:] = torch.nan
    torch.save(checkpoint, path)
    resumed = train(*arguments, checkpoints=tmp_path / "work")
    assert "begins anew" in caplog.text
    assert same(weights_of(resumed), weights_of(trained))


def test_lightning_advertises_nothing_whichever_of_its_names_was_imported_last(corpus, tmp_path, caplog):
    pytest.importorskip(
        "pytorch_lightning"
    )  # as MLflow does: what the other name logs goes to this one's log
    caplog.set_level("INFO")
    train(
        corpus.images,
        corpus.captions,
        corpus.features,
        small_training(epochs=1),
        checkpoints=tmp_path / "work",
    )
    assert {record.name.split(".")[0] for record in caplog.records} == {"captionloop"}


def test_features_that_are_no_numbers_are_refused_with_the_photo_named(corpus, tmp_path):
    key = corpus.images.loc[corpus.images["split"] == "train", "sha256"].iloc[7]
    grids = {sha256: grid.copy() for sha256, grid in corpus.features._grids.items()}
    grids[key][2, 3] = np.inf
    with pytest.raises(StoreError, match="photo 'p008': its cached features"):
        train(
            corpus.images,
            corpus.captions,
            MadeUpFeatures(grids),
            small_training(),
            checkpoints=tmp_path / "w",
        )


def test_parameters_that_are_no_numbers_are_refused():
    for name in ("learning_rate", "clip_norm", "weight_decay"):
        with pytest.raises(ValueError, match="finite"):
            small_training(**{name: float("inf")})


def test_several_machines_without_torchrun_are_refused_with_what_to_do(corpus, tmp_path):
    settings = small_training(processes={"accelerator": "cpu", "nodes": 2})
    with pytest.raises(ConfigurationError, match="torchrun --nnodes=2"):
        train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=tmp_path / "work")


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_processes_share_every_batch_out_among_them(corpus, world):
    from captionloop.training.caption_data import Batches

    train_photos = photos(corpus)
    plan = epoch_batches(train_photos, seed=0, epoch=0, batch_size=15, captions_per_photo=3, views=["whole"])
    parts = [
        list(Batches(train_photos, corpus.features, plan, grids=False, rank=rank, world=world))
        for rank in range(world)
    ]
    assert {len(part) for part in parts} == {len(plan)}
    for step, batch in enumerate(plan):
        taken = [photo for part in parts if not part[step].idle for photo in part[step].photos]
        assert sorted(taken) == sorted(share.photo for share in batch)
