import json

import pytest

from captionloop.commands.verify import (
    Canary,
    CanaryAnswer,
    Limits,
    choose_canaries,
    failed_share,
    find_problems,
    requests_by_status,
)
from captionloop.errors import ConfigurationError


def answers(*captions: str, version: str = "5", confidence: float = 0.7, expected: bool = True):
    return [
        CanaryAnswer(
            Canary(str(number), b"", caption if expected else "something else"), caption, confidence, version
        )
        for number, caption in enumerate(captions)
    ]


SANE = ("a red square", "a blue circle", "a red square")


def test_sane_answers_give_no_complaint() -> None:
    assert find_problems(answers(*SANE), "5", 0.75, Limits()) == []


@pytest.mark.parametrize(
    ("said", "usual", "complaint"),
    [
        (answers(*SANE, version="4"), None, "version 4 answered instead of version 5"),
        (answers("a dog", "", " "), None, "2 of 3 captions are empty"),
        (answers("a dog", "a dog"), None, "all 2 photos got the same caption, 'a dog'"),
        (answers(*SANE, confidence=0.3), 0.75, "the mean confidence collapsed to 0.30, it was 0.75 before"),
        (answers(*SANE, confidence=0.001), None, "the mean confidence collapsed to 0.00"),
        (answers(*SANE, expected=False), None, "only 0 of 3 captions are as at evaluation"),
    ],
)
def test_each_fault_is_one_sentence(said, usual, complaint) -> None:
    assert find_problems(said, "5", usual, Limits()) == [complaint]


def test_without_known_captions_agreement_is_not_asked_for() -> None:
    said = [
        CanaryAnswer(Canary("a", b""), "a dog", 0.5, "5"),
        CanaryAnswer(Canary("b", b""), "a cat", 0.5, "5"),
    ]
    assert find_problems(said, "5", None, Limits()) == []


EXPOSITION = """
# TYPE captionloop_requests_total counter
captionloop_requests_total{method="POST",route="/v1/captions",status="201"} 40.0
captionloop_requests_total{method="GET",route="/v1/model",status="503"} 2.0
captionloop_requests_total{method="GET",route="/v1/captions/{caption_id}",status="503"} 1.0
captionloop_requests_total{method="GET",route="/readyz",status="503"} 99.0
"""


def test_health_checks_are_no_requests_of_people() -> None:
    assert requests_by_status(EXPOSITION) == {"201": 40.0, "503": 3.0}


def test_requests_that_failed_before_do_not_count() -> None:
    assert failed_share({"201": 10, "503": 3}, {"201": 30, "503": 4, "422": 5}) == (1, 26)


def test_a_service_that_was_restarted_counts_from_nothing() -> None:
    assert failed_share({"201": 1000, "503": 3}, {"201": 30, "503": 1}) == (1, 31)


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
