"""Each published form gives the same tables, and each broken file one clear line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.corpus.expectations import Reason
from captionloop.corpus.photos import PhotoFolder
from captionloop.corpus.readers import read_coco, read_csv, read_flickr, read_karpathy, write_karpathy
from captionloop.corpus.tables import RawCorpus
from captionloop.errors import CorpusError

from .conftest import validated, write_json

KARPATHY = {
    "dataset": "tiny",
    "images": [
        {
            "filename": "a.jpg",
            "split": "train",
            "sentences": [{"raw": "A dog .", "tokens": ["a", "dog"]}, {"raw": "One dog runs ."}],
        },
        {"filename": "b.jpg", "split": "restval", "sentences": [{"raw": "A cat ."}]},
        {"filename": "c.jpg", "split": "val", "sentences": [{"raw": "Snow ."}]},
        {"filename": "d.jpg", "split": "test", "sentences": [{"raw": "A boat ."}]},
    ],
}


def texts(corpus: RawCorpus) -> list[tuple[str, str, str]]:
    return list(corpus.captions[["caption_id", "image_id", "text"]].itertuples(index=False, name=None))


def splits(corpus: RawCorpus) -> dict[str, str]:
    return dict(zip(corpus.images["uri"], corpus.images["split"], strict=True))


TINY_TEXTS = [
    ("a.jpg#0", "a.jpg", "A dog ."),
    ("a.jpg#1", "a.jpg", "One dog runs ."),
    ("b.jpg#0", "b.jpg", "A cat ."),
    ("c.jpg#0", "c.jpg", "Snow ."),
    ("d.jpg#0", "d.jpg", "A boat ."),
]
TINY_SPLITS = {"a.jpg": "train", "b.jpg": "train", "c.jpg": "val", "d.jpg": "test"}


def test_karpathy_gives_all_splits_and_counts_restval_as_train(tmp_path: Path) -> None:
    corpus = read_karpathy(write_json(tmp_path / "dataset.json", KARPATHY))
    assert splits(corpus) == TINY_SPLITS
    assert texts(corpus) == TINY_TEXTS


def test_flickr_gives_what_karpathy_gives(tmp_path: Path) -> None:
    lines = [f"{caption_id}\t{text}" for caption_id, _, text in TINY_TEXTS]
    (tmp_path / "tokens.txt").write_text("\n".join(lines) + "\n")
    for split, names in {"train": "a.jpg\nb.jpg\n", "dev": "c.jpg", "test": "d.jpg\n\n"}.items():
        (tmp_path / f"{split}.txt").write_text(names)
    files = {split: [str(tmp_path / f"{split}.txt")] for split in ("train", "dev", "test")}
    corpus = read_flickr(str(tmp_path / "tokens.txt"), files)
    assert splits(corpus) == TINY_SPLITS
    assert texts(corpus) == TINY_TEXTS


def test_csv_gives_what_karpathy_gives(tmp_path: Path) -> None:
    rows = "\r\n".join(f'{name},"{text}",{TINY_SPLITS[name]}' for _, name, text in TINY_TEXTS)
    (tmp_path / "captions.csv").write_text("\ufeffImage,caption,split\r\n" + rows, encoding="utf-8")
    corpus = read_csv(str(tmp_path / "captions.csv"))
    assert splits(corpus) == TINY_SPLITS
    assert texts(corpus) == TINY_TEXTS


def coco_file(path: Path, images: list[tuple[int, str]], captions: list[tuple[int, str]]) -> str:
    document = {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [
            {"id": 100 + place, "image_id": number, "caption": text}
            for place, (number, text) in enumerate(captions)
        ],
    }
    return write_json(path, document)


def test_coco_reads_several_files_each_with_its_split_and_folder(tmp_path: Path) -> None:
    train = coco_file(tmp_path / "a.json", [(7, "x.jpg")], [(7, "A dog ."), (7, "One dog .")])
    more = coco_file(tmp_path / "b.json", [(8, "y.jpg")], [(8, "A cat .")])
    val = coco_file(tmp_path / "c.json", [(9, "z.jpg")], [(9, "Snow .")])
    corpus = read_coco({"train": [train, more], "val": [val]}, {"train": "train2014"})
    assert splits(corpus) == {"train2014/x.jpg": "train", "train2014/y.jpg": "train", "z.jpg": "val"}
    assert texts(corpus)[:2] == [("7#0", "7", "A dog ."), ("7#1", "7", "One dog .")]


def test_karpathys_coco_has_the_ids_of_coco(tmp_path: Path) -> None:
    entry = {
        "filepath": "val2014",
        "filename": "x.jpg",
        "cocoid": 7,
        "split": "val",
        "sentences": [{"raw": "A"}],
    }
    corpus = read_karpathy(write_json(tmp_path / "k.json", {"images": [entry]}))
    assert corpus.images[["image_id", "uri"]].values.tolist() == [["7", "val2014/x.jpg"]]
    assert corpus.captions["caption_id"].tolist() == ["7#0"]


word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["train", "val", "test"]), st.lists(word, max_size=4)), max_size=6))
def test_what_is_written_in_karpathys_form_is_read_back(tmp_path_factory, scenes) -> None:
    images = [(f"{n}.jpg", f"{n}.jpg", split) for n, (split, _) in enumerate(scenes)]
    captions = [
        (f"{n}.jpg#{k}", f"{n}.jpg", t) for n, (_, said) in enumerate(scenes) for k, t in enumerate(said)
    ]
    corpus = RawCorpus.from_rows(images, captions)
    path = tmp_path_factory.mktemp("karpathy") / "dataset.json"
    path.write_text(write_karpathy(corpus, "x"), encoding="utf-8")
    back = read_karpathy(str(path))
    pd.testing.assert_frame_equal(back.images, corpus.images)
    pd.testing.assert_frame_equal(back.captions, corpus.captions)


def without(document: dict, *path: str | int) -> dict:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "holds a JSON list where an object is expected"),
        (without(KARPATHY, "images"), "'images', a list of objects, is missing"),
        ({"images": {"a": 1}}, "'images', a list of objects, is a dict"),
        ({"images": ["a.jpg"]}, "images[0] is a str"),
        (without(KARPATHY, "images", 1, "filename"), "images[1] has no key 'filename'"),
        (without(KARPATHY, "images", 2, "split"), "images[2] has no key 'split'"),
        (without(KARPATHY, "images", 0, "sentences"), "'sentences', a list of objects, is missing"),
        (without(KARPATHY, "images", 0, "sentences", 1, "raw"), "images[0].sentences[1] has no key 'raw'"),
    ],
)
def test_another_structure_is_named_by_key_and_entry(tmp_path: Path, document: object, says: str) -> None:
    path = write_json(tmp_path / "dataset.json", document)
    with pytest.raises(CorpusError) as error:
        read_karpathy(path)
    assert says in str(error.value)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_coco_without_one_of_its_lists_is_refused(tmp_path: Path, key: str) -> None:
    path = coco_file(tmp_path / "a.json", [(1, "x.jpg")], [(1, "A dog .")])
    broken = write_json(tmp_path / "b.json", without(json.loads(Path(path).read_text()), key))
    with pytest.raises(CorpusError, match=f"the key '{key}'"):
        read_coco({"train": [broken]})


def test_unreadable_json_is_named_by_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"images": [\n  {"filename": "a.jpg"')
    with pytest.raises(CorpusError, match=r"cut\.json is not readable JSON \(line 2, column \d+: .*\)"):
        read_karpathy(str(tmp_path / "cut.json"))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(CorpusError, match="not UTF-8 text"):
        read_karpathy(str(tmp_path / "photo.json"))


@pytest.mark.parametrize(
    "read",
    [
        read_karpathy,
        read_csv,
        lambda path: read_coco({"train": [path]}),
        lambda path: read_flickr(path, {}),
        lambda path: read_flickr(__file__, {"train": [path]}),
    ],
)
def test_a_missing_file_is_one_clear_line(tmp_path: Path, read) -> None:
    with pytest.raises(CorpusError, match=r"^There is no file .*absent: check the path.*$"):
        read(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,caption\na.jpg,A dog\n", "has no column 'split'"),
        ("", "has no column 'image'"),
        ("image,caption,split\na.jpg,A dog, a cat,train\n", "line 2 has 4 fields, not 3"),
        ('image,caption,split\na.jpg,"A dog,train\n', "is not readable CSV"),
    ],
)
def test_a_csv_of_another_shape_is_named_by_line_or_column(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(CorpusError) as error:
        read_csv(str(tmp_path / "c.csv"))
    assert says in str(error.value)


@pytest.mark.parametrize("line", ["a.jpg A dog .", "a.jpg\tA dog .", "#0\tA dog .", "a.jpg#x\tA dog ."])
def test_a_token_line_of_another_shape_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "tokens.txt").write_text(f"a.jpg#0\tA dog .\n{line}\n")
    with pytest.raises(CorpusError, match="line 2, is not"):
        read_flickr(str(tmp_path / "tokens.txt"), {})


@pytest.mark.e2e  # eight thousand photos are read
@pytest.mark.flickr8k
def test_both_forms_of_flickr8k_give_the_same_tables_and_validation_finds_its_quirks(flickr8k: Path) -> None:
    photos = PhotoFolder(str(flickr8k / "images"))
    karpathy = read_karpathy(str(flickr8k / "dataset_flickr8k.json"))
    lists = {s: [str(flickr8k / f"Flickr_8k.{s}Images.txt")] for s in ("train", "dev")}
    flickr = read_flickr(str(flickr8k / "Flickr8k.token.txt"), lists)
    by_id = dict(zip(karpathy.images["image_id"], karpathy.images["split"], strict=True))
    assert dict(zip(flickr.images["image_id"], flickr.images["split"], strict=True)) == by_id
    listed = flickr.captions[flickr.captions["image_id"].isin(by_id)]
    pd.testing.assert_frame_equal(
        listed.sort_values("caption_id", ignore_index=True),
        karpathy.captions.sort_values("caption_id", ignore_index=True),
    )

    result = validated(flickr, photos)
    quirk = result.quarantine.query("reason == @Reason.NO_PHOTO")
    assert set(quirk["image_id"]) == {"2258277193_586949ec62.jpg.1"}
    assert len(quirk) == 5
    assert result.report["quarantine"] == {"image": {}, "caption": {Reason.NO_PHOTO: 5, Reason.NO_IMAGE: 455}}
    assert result.report["released"]["images"] == {"train": 6000, "val": 1000, "test": 0}
    (pair,) = result.report["same_photo"]["pairs"]
    assert set(pair["images"]) == {"2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg"}
    assert pair["splits"] == ["train", "train"]
    assert pair["same_bytes"]
