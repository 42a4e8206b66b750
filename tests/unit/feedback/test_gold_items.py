"""Gold items: chosen from a corpus, added to what people are shown, and taken for gold by curation."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from captionloop.cli import main
from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.gold_items import choose_gold_items
from captionloop.feedback.rater_reliability import gold_items
from captionloop.photos import PhotoArchive
from captionloop.ratings.rating_store import RatingsStore

PARAMETERS = FeedbackParameters()
SCENES = list(draw_scenes(SceneParameters(train=6, val=12, test=0, side=48)))


@pytest.fixture
def corpus() -> tuple[pd.DataFrame, pd.DataFrame]:
    from hashlib import sha256

    images = [
        (scene.name, scene.name, sha256(scene.photo).hexdigest(), 48, 48, scene.split, "corpus")
        for scene in SCENES
    ]
    captions = [
        (f"{scene.name}#{number}", scene.name, text, "human", 1.0)
        for scene in SCENES
        for number, text in enumerate(scene.captions)
    ]
    return (
        pd.DataFrame(images, columns=["image_id", "uri", "sha256", "width", "height", "split", "source"]),
        pd.DataFrame(captions, columns=["caption_id", "image_id", "text", "source", "weight"]),
    )


def test_what_is_chosen_is_gold_to_curation_half_of_it_good(corpus) -> None:
    images, captions = corpus
    chosen = choose_gold_items(images, captions, 8, PARAMETERS, seed=0)
    assert chosen == choose_gold_items(images, captions, 8, PARAMETERS, seed=0)
    assert len(chosen) == 8 == len({item.sha256 for item in chosen})
    assert sum(item.good for item in chosen) == 4
    validation = set(images.loc[images["split"] == "val", "sha256"])
    assert {item.sha256 for item in chosen} <= validation
    shown = pd.DataFrame(
        [(str(n), item.text, item.sha256, None) for n, item in enumerate(chosen)],
        columns=["caption_id", "text", "image_id", "sent_sha256"],
    )
    quality = gold_items(shown, images, captions, good=PARAMETERS.known_good, bad=PARAMETERS.known_bad)
    assert quality == {str(n): item.good for n, item in enumerate(chosen)}


def test_a_corpus_of_one_photo_has_none(corpus) -> None:
    images, captions = corpus
    assert choose_gold_items(images.head(1), captions, 8, PARAMETERS, seed=0) == []


@pytest.mark.integration
def test_the_command_adds_what_is_missing(
    corpus, project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", str(tmp_path))
    monkeypatch.setenv("CAPTIONLOOP_STATE", str(tmp_path / "state"))
    shutil.copytree(project_root / "conf", tmp_path / "conf")
    refused = CliRunner().invoke(main, ["gold", "4"])
    assert refused.exit_code == 1 and "run kedro run --pipelines data_validation first" in refused.stderr
    tables = tmp_path / "data/02_intermediate/sample_scenes"
    photos = tmp_path / "data/01_raw/sample_scenes/photos"
    tables.mkdir(parents=True)
    photos.mkdir(parents=True)
    for name, table in zip(("images", "captions"), corpus, strict=True):
        table.to_parquet(tables / f"{name}.parquet")
    for scene in SCENES:
        (photos / scene.name).parent.mkdir(parents=True, exist_ok=True)
        (photos / scene.name).write_bytes(scene.photo)
    outputs = [CliRunner().invoke(main, ["gold", count]).stdout for count in ("4", "6", "6")]
    assert outputs == [
        "4 gold items added; there are 4.\n",
        "2 gold items added; there are 6.\n",
        "0 gold items added; there are 6.\n",
    ]
    store, archive = (
        RatingsStore(f"sqlite:///{tmp_path}/state/ratings.db"),
        PhotoArchive(str(tmp_path / "state/photos")),
    )
    assert len(store.gold_photos()) == 6
    shown = store.of_owner("corpus", 10)
    assert sorted(served.known_good for served, _ in shown) == [False] * 3 + [True] * 3
    assert all(served.shared and archive.holds(served.photo.sha256) for served, _ in shown)
    store.close()
