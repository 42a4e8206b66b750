import json

import pytest

from captionloop.commands.canaries import (
    Canary,
    CanaryResult,
    Limits,
    NotVerifiedError,
    choose_canaries,
    find_problems,
)
from captionloop.commands.verification import PrometheusCounts
from captionloop.errors import ConfigurationError


def answers(*captions: str | None, confidence: float = 0.7, expected: bool = True):
    return [
        CanaryResult(Canary(str(number), b"", caption if expected else "something else"), caption, confidence)
        for number, caption in enumerate(captions)
    ]


SANE = ("a red square", "a blue circle", "a red square")


def test_sane_answers_give_no_complaint() -> None:
    assert find_problems(answers(*SANE), 0.75, Limits()) == []


@pytest.mark.parametrize(
    ("results", "usual", "complaint"),
    [
        (answers("a dog", "a cat", None), None, "1 of 3 photos could not be captioned"),
        (answers(None, None), None, "2 of 2 photos could not be captioned"),
        (answers("a dog", "", " "), None, "2 of 3 captions are empty"),
        (answers("a dog", "a dog"), None, "all 2 photos got the same caption, 'a dog'"),
        (answers(*SANE, confidence=0.3), 0.75, "the mean confidence collapsed to 0.30, it was 0.75 before"),
        (answers(*SANE, confidence=0.001), None, "the mean confidence collapsed to 0.00"),
        (answers(*SANE, expected=False), None, "only 0 of 3 captions are as at evaluation"),
    ],
)
def test_each_fault_is_one_sentence(results, usual, complaint) -> None:
    assert find_problems(results, usual, Limits()) == [complaint]


def test_without_known_captions_agreement_is_not_asked_for() -> None:
    results = [
        CanaryResult(Canary("a", b""), "a dog", 0.5),
        CanaryResult(Canary("b", b""), "a cat", 0.5),
    ]
    assert find_problems(results, None, Limits()) == []


@pytest.fixture
def project(tmp_path):
    conf = tmp_path / "conf/base"
    conf.mkdir(parents=True)
    (tmp_path / "conf/local").mkdir()
    (conf / "globals.yml").write_text("corpus: scenes")
    (conf / "catalog.yml").write_text(
        "_data: ${runtime_params:workspace,data}\n"
        "raw_photos: {type: captionloop.datasets.PhotoFolderDataset, "
        "filepath: '${_data}/${globals:corpus}/photos'}\n"
        "evaluation_photos: {type: captionloop.datasets.AtomicJSONDataset, "
        "filepath: '${_data}/${globals:corpus}/evaluation.json'}\n"
    )
    folder = tmp_path / "data/scenes"
    (folder / "photos").mkdir(parents=True)
    for name in "abc":
        (folder / "photos" / f"{name}.jpg").write_bytes(name.encode())
    document = {"image_ids": ["1", "2", "3"], "uris": ["c.jpg", "b.jpg", "a.jpg"]}
    (folder / "evaluation.json").write_text(json.dumps(document))
    return tmp_path


def test_canaries_are_the_first_of_the_frozen_evaluation_set(project) -> None:
    chosen = choose_canaries(project, None, None, 2)
    assert [(each.name, each.photo) for each in chosen] == [("1", b"c"), ("2", b"b")]


def test_a_folder_can_be_named_instead(project) -> None:
    chosen = choose_canaries(project, None, str(project / "data/scenes/photos"), 9)
    assert [each.name for each in chosen] == ["a.jpg", "b.jpg", "c.jpg"]


def test_without_an_evaluation_set_one_line_says_what_to_do(project) -> None:
    (project / "data/scenes/evaluation.json").unlink()
    with pytest.raises(ConfigurationError, match="give --photos a folder"):
        choose_canaries(project, "base", None, 2)
    with pytest.raises(ConfigurationError, match="no Kedro environment nowhere"):
        choose_canaries(project, "nowhere", None, 2)


def test_a_prometheus_that_does_not_answer_is_no_verdict() -> None:
    counts = PrometheusCounts("http://user:secret@127.0.0.1:9", "2")
    with pytest.raises(NotVerifiedError, match="correct --prometheus, or leave it out") as error:
        counts()
    assert "secret" not in str(error.value)
