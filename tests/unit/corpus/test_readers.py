"""Each published form gives the same tables, and each broken file one clear line."""

import csv
import gzip
import json
import os
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.corpus.expectations import CorpusIssue
from captionloop.corpus.readers import read_coco, read_csv, read_flickr, read_karpathy, write_karpathy
from captionloop.corpus.tables import RawCorpus
from captionloop.errors import CorpusError
from captionloop.photos import PhotoFolder

from .conftest import photo, validated, write_json

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
        (f"{n}.jpg#{k}", f"{n}.jpg", t) for n, (_, texts) in enumerate(scenes) for k, t in enumerate(texts)
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
    ("document", "message"),
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
def test_another_structure_is_named_by_key_and_entry(tmp_path: Path, document: object, message: str) -> None:
    path = write_json(tmp_path / "dataset.json", document)
    with pytest.raises(CorpusError) as error:
        read_karpathy(path)
    assert message in str(error.value)
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
    ("text", "message"),
    [
        ("image,caption\na.jpg,A dog\n", "has no column 'split'"),
        ("", "has no column 'image'"),
        ("image,caption,split\na.jpg,A dog, a cat,train\n", "line 2 has 4 fields, not 3"),
        ('image,caption,split\na.jpg,"A dog,train\n', "is not readable CSV"),
        ("image,caption,caption,split\na.jpg,A dog,A cat,train\n", "has 2 columns 'caption'"),
    ],
)
def test_a_csv_of_another_shape_is_named_by_line_or_column(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(CorpusError) as error:
        read_csv(str(tmp_path / "c.csv"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "image;caption;split\na.jpg;A dog, asleep;train\n",
        '"Image"\t"Caption"\t"Split"\na.jpg\tA dog, asleep\ttrain\n',
        'image, caption, split\na.jpg, "A dog, asleep", train\n',
        "image;caption;split\r\na.jpg;A dog, asleep;train\r\n;;\r\n",
        '\ufeffimage,caption,split\ra.jpg,"A dog, asleep",train\r   \r',
    ],
)
def test_a_csv_as_spreadsheets_write_it_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_bytes(text.encode())
    found = read_csv(str(tmp_path / "c.csv"))
    assert found.images[["uri", "split"]].values.tolist() == [["a.jpg", "train"]]
    assert found.captions["text"].tolist() == ["A dog, asleep"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"image,caption,split", mtime=0), "gzip archive"),
        (b"PK\3\4\x14\0\x08\xff", "spreadsheet"),
        ("image,caption,split".encode("utf-16"), "UTF-16"),
        ("image,caption,split\na.jpg,ein Hündchen,train".encode("latin-1"), "Latin-1"),
    ],
)
def test_a_file_that_is_no_text_is_told_with_what_it_may_be(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "c.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read_csv(str(tmp_path / "c.csv"))


def test_a_file_by_an_address_of_an_unknown_kind_is_one_line() -> None:
    with pytest.raises(CorpusError, match="s3x"):
        read_csv("s3x://bucket/captions.csv")


def test_a_key_that_stands_twice_in_an_object_is_told(tmp_path: Path) -> None:
    image = '{"filename": "a.jpg", "split": "train", "sentences": []}'
    (tmp_path / "c.json").write_text(f'{{"images": [{image}], "images": [{image}]}}')
    with pytest.raises(CorpusError, match="the key 'images' stands twice"):
        read_karpathy(str(tmp_path / "c.json"))


def test_lists_and_tokens_with_the_line_ends_of_any_system_are_read(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(b"\xef\xbb\xbfa.jpg\rb.jpg\r\nc.jpg\n")
    (tmp_path / "tokens").write_bytes(b"a.jpg#0\tA dog\rb.jpg#0\tA cat\r\nc.jpg#0\tA\xc2\x85cow\n")
    found = read_flickr(str(tmp_path / "tokens"), {"train": [str(tmp_path / "train")]})
    assert found.images["uri"].tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert found.captions["text"].tolist() == ["A dog", "A cat", "A\x85cow"]


@pytest.mark.parametrize("line", ["a.jpg A dog .", "a.jpg\tA dog .", "#0\tA dog .", "a.jpg#x\tA dog ."])
def test_a_token_line_of_another_shape_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "tokens.txt").write_text(f"a.jpg#0\tA dog .\n{line}\n")
    with pytest.raises(CorpusError, match="line 2, is not"):
        read_flickr(str(tmp_path / "tokens.txt"), {})


def rows(corpus: RawCorpus) -> list[tuple[str, str, str]]:
    return list(corpus.images[["image_id", "uri", "split"]].itertuples(index=False, name=None))


def texts_by_photo(corpus: RawCorpus) -> dict[str, list[str]]:
    """The captions of each photo, as they would be taught."""
    uris = corpus.images.set_index("image_id")["uri"].to_dict()
    found: dict[str, list[str]] = {}
    for row in corpus.captions.itertuples():
        found.setdefault(uris.get(row.image_id, f"none ({row.image_id})"), []).append(row.text)
    return found


def test_coco_files_that_both_number_their_images_from_1_keep_them_apart(tmp_path: Path) -> None:
    train = coco_file(tmp_path / "train.json", [(1, "1.jpg"), (2, "2.jpg")], [(1, "A dog ."), (2, "Two .")])
    val = coco_file(tmp_path / "val.json", [(1, "1.jpg"), (3, "3.jpg")], [(1, "A cat ."), (3, "Three .")])
    corpus = read_coco({"train": [train], "val": [val]}, {"train": "train", "val": "val"})
    assert rows(corpus) == [
        ("train:1", "train/1.jpg", "train"), ("2", "train/2.jpg", "train"),
        ("val:1", "val/1.jpg", "val"), ("3", "val/3.jpg", "val"),
    ]  # fmt: skip
    assert texts_by_photo(corpus)["train/1.jpg"] == ["A dog ."]
    assert texts_by_photo(corpus)["val/1.jpg"] == ["A cat ."]
    assert corpus.captions["caption_id"].is_unique


def test_two_files_of_one_split_and_one_name_keep_their_images_apart(tmp_path: Path) -> None:
    for folder, text in (("a", "A dog ."), ("b", "A cat .")):
        (tmp_path / folder).mkdir()
        coco_file(tmp_path / folder / "c.json", [(1, f"{folder}.jpg")], [(1, text)])
    paths = [str(tmp_path / folder / "c.json") for folder in "ab"]
    assert texts_by_photo(read_coco({"train": paths})) == {"a.jpg": ["A dog ."], "b.jpg": ["A cat ."]}


def test_an_annotation_is_never_one_of_another_files_image(tmp_path: Path) -> None:
    train = coco_file(tmp_path / "train.json", [(1, "1.jpg")], [(1, "A dog .")])
    val = coco_file(tmp_path / "val.json", [(2, "2.jpg")], [(2, "A cat ."), (1, "Of no image here .")])
    corpus = read_coco({"train": [train], "val": [val]})
    assert texts_by_photo(corpus) == {
        "1.jpg": ["A dog ."],
        "2.jpg": ["A cat ."],
        "none (val:1)": ["Of no image here ."],
    }


def test_captions_of_one_image_in_two_files_come_together(tmp_path: Path) -> None:
    one = coco_file(tmp_path / "a.json", [(7, "x.jpg")], [(7, "A dog .")])
    two = coco_file(tmp_path / "b.json", [(7, "x.jpg")], [(7, "One dog .")])
    corpus = read_coco({"train": [one, two]})
    assert texts(corpus) == [("7#0", "7", "A dog ."), ("7#1", "7", "One dog .")]


def test_numbers_are_one_id_however_they_are_written_and_text_is_another(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": "007", "file_name": "b.jpg"}]
    annotations = [{"image_id": 7.0, "caption": "A dog ."}, {"image_id": "7", "caption": "One ."},
            {"image_id": "007", "caption": "A spy ."}]  # fmt: skip
    path = write_json(tmp_path / "c.json", {"images": images, "annotations": annotations})
    assert texts_by_photo(read_coco({"train": [path]})) == {
        "a.jpg": ["A dog .", "One ."],
        "b.jpg": ["A spy ."],
    }


@pytest.mark.parametrize("wrong", [None, True, [1], {}, float("nan")])
def test_an_id_that_is_none_is_one_line(tmp_path: Path, wrong: object) -> None:
    path = write_json(
        tmp_path / "c.json", {"images": [{"id": wrong, "file_name": "a.jpg"}], "annotations": []}
    )
    with pytest.raises(CorpusError, match=r"images\[0\]\.id is .* where a number or text is expected"):
        read_coco({"train": [path]})


@pytest.mark.integration
def test_one_id_for_two_photos_in_one_file_is_quarantined_with_its_captions(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    for seed, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        folder.write(name, photo(seed))
    path = coco_file(
        tmp_path / "c.json", [(1, "a.jpg"), (1, "b.jpg"), (2, "c.jpg")], [(1, "A dog ."), (2, "A cat .")]
    )
    result = validated(read_coco({"train": [path]}), folder)
    assert result.images["uri"].tolist() == ["c.jpg"]
    assert result.captions["text"].tolist() == ["A cat ."]
    assert result.quarantine["reason"].tolist() == [CorpusIssue.AMBIGUOUS_IMAGE_ID] * 2 + [
        CorpusIssue.IMAGE_REJECTED
    ]


def test_karpathys_file_names_are_kept_apart_by_their_split(tmp_path: Path) -> None:
    document = {
        "images": [
            {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog ."}]},
            {"filename": "1.jpg", "filepath": None, "split": "val", "sentences": [{"raw": "A cat ."}]},
        ]
    }
    corpus = read_karpathy(write_json(tmp_path / "k.json", document))
    assert rows(corpus) == [("train:1.jpg", "1.jpg", "train"), ("val:1.jpg", "1.jpg", "val")]
    assert texts(corpus)[1] == ("val:1.jpg#0", "val:1.jpg", "A cat .")


def test_a_photo_that_a_csv_names_in_two_splits_is_measured_and_not_trained_on(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    folder.write("train/1.jpg", photo(1))
    folder.write("val/1.jpg", photo(2))
    folder.write("both.jpg", photo(3))
    (tmp_path / "c.csv").write_text(
        "image,caption,split\ntrain/1.jpg,A dog,train\nval//1.jpg,A cat,val\n"
        "both.jpg,One,train\n./both.jpg,Two,val\n"
    )
    result = validated(read_csv(str(tmp_path / "c.csv")), folder)
    assert dict(zip(result.images["image_id"], result.images["split"], strict=True)) == {
        "train/1.jpg": "train", "val/1.jpg": "val", "val:both.jpg": "val",
    }  # fmt: skip
    assert set(result.captions["text"]) == {"A dog", "A cat", "Two"}
    assert set(result.quarantine["id"]) == {"train:both.jpg", "train:both.jpg#0"}


def test_a_photo_that_two_lists_of_flickrs_form_name_is_measured_and_not_trained_on(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    for seed, name in enumerate(("train.jpg", "val.jpg", "both.jpg")):
        folder.write(name, photo(seed))
    (tmp_path / "train").write_text("train.jpg\nboth.jpg\n")
    (tmp_path / "dev").write_text("both.jpg\nval.jpg\n")
    lines = [
        f"{name}#{place}\tPhoto {place} ."
        for name in ("train.jpg", "both.jpg", "val.jpg")
        for place in (0, 1)
    ]
    (tmp_path / "tokens").write_text("\n".join(lines))
    splits = {"train": [str(tmp_path / "train")], "dev": [str(tmp_path / "dev")]}
    result = validated(read_flickr(str(tmp_path / "tokens"), splits), folder)
    assert dict(zip(result.images["image_id"], result.images["split"], strict=True)) == {
        "train.jpg": "train", "val:both.jpg": "val", "val.jpg": "val",
    }  # fmt: skip
    assert len(result.captions) == 6
    assert result.quarantine[["id", "reason"]].values.tolist() == [
        ["train:both.jpg", CorpusIssue.DUPLICATE_ELSEWHERE],
        ["train:both.jpg#0", CorpusIssue.IMAGE_REJECTED],
        ["train:both.jpg#1", CorpusIssue.IMAGE_REJECTED],
    ]


def test_a_row_that_stands_in_a_csv_twice_counts_once(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    folder.write("a.jpg", photo(1))
    folder.write("b.jpg", photo(2))
    (tmp_path / "c.csv").write_text(
        "image,caption,split,who\na.jpg,A dog,train,x\na.jpg,A dog,train,y\nb.jpg,A dog,train,x\n"
        "a.jpg,A dog,train,x\nb.jpg,One,train,x\na.jpg,A dog,train,y\n"
    )
    result = validated(read_csv(str(tmp_path / "c.csv")), folder)
    assert result.captions[["image_id", "text"]].values.tolist() == [
        ["a.jpg", "A dog"], ["a.jpg", "A dog"], ["b.jpg", "A dog"], ["b.jpg", "One"],
    ]  # fmt: skip
    assert result.quarantine["id"].tolist() == ["a.jpg#2", "a.jpg#3"]
    assert set(result.quarantine["reason"]) == {CorpusIssue.REPEATED_ROW}


def test_one_field_without_end_costs_its_row_alone(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    folder.write("a.jpg", photo(1))
    endless = "dog " * 50_000
    (tmp_path / "c.csv").write_text(
        f'image,caption,split\na.jpg,"{endless}",train\n{endless},A cat,train\na.jpg,A dog,train\n'
    )
    before = csv.field_size_limit()
    result = validated(read_csv(str(tmp_path / "c.csv")), folder)
    assert csv.field_size_limit() == before
    assert result.captions["text"].tolist() == ["A dog"]
    assert result.quarantine["reason"].tolist() == [
        CorpusIssue.PHOTO_MISSING, CorpusIssue.TOO_LONG, CorpusIssue.IMAGE_REJECTED,
    ]  # fmt: skip


def test_a_name_in_other_case_or_folder_is_missing_with_a_hint(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    for seed, name in enumerate(("sub/Photo.jpg", "x/one.jpg", "y/one.jpg", "good.jpg")):
        folder.write(name, photo(seed))
    names = ["sub/photo.JPG", "PHOTO.jpg", "one.jpg", "X/one.jpg", "absent.jpg", "good.jpg"]
    rows = "".join(f"{name},A dog,train\n" for name in names)
    (tmp_path / "c.csv").write_text("image,caption,split\n" + rows)
    result = validated(read_csv(str(tmp_path / "c.csv")), folder)
    missing = result.quarantine[result.quarantine["reason"] == CorpusIssue.PHOTO_MISSING].set_index("id")[
        "text"
    ]
    hints = {name: text.partition("did you mean ")[2].removesuffix("?)") for name, text in missing.items()}
    assert hints == {
        "sub/photo.JPG": "sub/Photo.jpg", "PHOTO.jpg": "sub/Photo.jpg",
        "one.jpg": "", "X/one.jpg": "x/one.jpg", "absent.jpg": "",
    }  # fmt: skip


@pytest.mark.integration
def test_letters_may_be_composed_differently_in_captions_and_on_disk(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Müller é.jpg") for form in ("NFC", "NFD"))
    for on_disk, named in ((composed, apart), (apart, composed)):
        folder = PhotoFolder(str(tmp_path / f"photos{len(on_disk)}"))
        folder.write(on_disk, photo(1))
        folder.write("sub/b.jpg", photo(2))
        (tmp_path / "train").write_text(f"{named}\nsub\\b.jpg\n")
        (tmp_path / "tokens").write_text(f"{composed}#0\tA dog\nsub\\b.jpg#0\tA cat\n")
        corpus = read_flickr(str(tmp_path / "tokens"), {"train": [str(tmp_path / "train")]})
        result = validated(corpus, folder)
        assert set(result.images["uri"]) == {on_disk, "sub/b.jpg"}
        assert result.quarantine.empty


def test_names_in_another_encoding_are_counted_and_told(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path / "photos"))
    folder.write("good.jpg", photo(1))
    (tmp_path / "photos" / os.fsdecode(b"Stra\xdfe.jpg")).write_bytes(photo(2))
    (tmp_path / "photos" / "two\nlines.jpg").write_bytes(photo(3))
    (tmp_path / "c.json").write_text(
        '{"images": [{"id": 1, "file_name": "good.jpg"}, {"id": 2, "file_name": "Stra\\udcdfe.jpg"},'
        ' {"id": 3, "file_name": "two\\nlines.jpg"}, {"id": 4, "file_name": "nul\\u0000.jpg"},'
        ' {"id": 5, "file_name": null}, {"id": "\\ud800", "file_name": "' + "x" * 5000 + '.jpg"}],'
        ' "annotations": [{"image_id": 1, "caption": "A dog"}, {"image_id": 1, "caption": "A \\ud83d dog"},'
        ' {"image_id": 1, "caption": "\\ud83d\\ude00"}, {"image_id": 2, "caption": "A street"},'
        ' {"image_id": 3, "caption": "A cat"}]}'
    )
    result = validated(read_coco({"train": [str(tmp_path / "c.json")]}), folder)
    assert result.images["uri"].tolist() == ["good.jpg", "two\nlines.jpg"]
    assert result.captions["text"].tolist() == ["A dog", "A cat"]
    reasons = result.quarantine["reason"].value_counts().to_dict()
    assert reasons == {CorpusIssue.PHOTO_MISSING: 4, CorpusIssue.NOT_TEXT: 2, CorpusIssue.IMAGE_REJECTED: 1}
    result.quarantine.to_parquet(tmp_path / "quarantine.parquet")
    json.dumps(result.report).encode("utf-8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("image,caption,split\na.jpg,Straße,train\n".encode("latin-1"), "not UTF-8 text .*Latin-1"),
        ("image,caption,split\n".encode("utf-16"), "may be UTF-16"),
        ("image,caption,split\n".encode("utf-16-le"), "may be UTF-16"),
    ],
)
def test_a_file_in_another_encoding_is_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "c.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read_csv(str(tmp_path / "c.csv"))


def test_a_number_of_too_many_digits_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"images": [{"id": ' + "1" * 5000 + "}]}")
    with pytest.raises(CorpusError, match="not readable JSON"):
        read_coco({"train": [str(tmp_path / "c.json")]})


def test_images_without_any_caption_are_quarantined(tmp_path: Path) -> None:
    folder = PhotoFolder(str(tmp_path))
    folder.write("a.jpg", photo(1))
    result = validated(RawCorpus.from_rows([("a.jpg", "a.jpg", "train")], []), folder)
    assert result.quarantine["reason"].tolist() == [CorpusIssue.TOO_FEW_CAPTIONS]


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
    assert result.report["quarantine"] == {
        "image": {},
        "caption": {CorpusIssue.NO_PHOTO: 5, CorpusIssue.NO_IMAGE: 455},
    }
    assert result.report["released"]["images"] == {"train": 6000, "val": 1000, "test": 0}
    (pair,) = result.report["same_photo"]["pairs"]
    assert set(pair["images"]) == {"2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg"}
    assert pair["splits"] == ["train", "train"]
    assert pair["same_bytes"]
