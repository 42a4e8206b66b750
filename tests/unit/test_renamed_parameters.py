"""Parameters by the names they had before: they work, each is told, and nothing says both names at once."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from captionloop.config import read_configuration
from captionloop.errors import ConfigurationError
from captionloop.paths import RENAMED, renamed

BLOCKS = {
    "rater_limits": {"burst": 9},
    "repeated_corrections": {"photos": 9},
    "correction_text": {"max_words": 9},
    "label_noise": {"epochs": 9},
}
"""What blocks are tried with; all other parameters are tried with a number."""


@pytest.fixture
def project(own_project: Path) -> Path:
    """As `own_project`."""
    return own_project


def write(project: Path, content: Mapping[str, Any], name: str = "parameters.yml") -> None:
    (project / "conf/mine" / name).write_text(yaml.safe_dump(dict(content)))


def block(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)


def joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    return both | {name: joined(one[name], other[name]) for name in one.keys() & other.keys()}


def at(parameters: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        parameters = parameters[part]
    return parameters


def written(old: str) -> tuple[str, Any, str, Any]:
    """A former name with a value to try it with, and the present name with the value that it has then."""
    former, _, old_value = old.replace("*", "show_attend_tell").partition("=")
    present, _, new_value = RENAMED[old].replace("*", "show_attend_tell").partition("=")
    value = BLOCKS.get(present.rpartition(".")[2], 0.3)
    return former, old_value or value, present, new_value or value


@pytest.mark.parametrize("old", RENAMED)
def test_a_former_name_works_and_is_told_with_the_present_one(old: str) -> None:
    former, value, present, now = written(old)
    lines: list[str] = []
    assert renamed(block(former, value), "conf/mine/x.yml", lines.append) == block(present, now)
    told = RENAMED[old].replace("*", "show_attend_tell")
    assert lines == [
        f"Parameter {old.replace('*', 'show_attend_tell')} is called {told} now: change it in conf/mine/x.yml"
    ]


@pytest.mark.parametrize("old", [old for old in RENAMED if "=" not in old])
def test_a_former_and_a_present_name_in_one_place_are_refused(old: str) -> None:
    former, value, present, now = written(old)
    with pytest.raises(ConfigurationError, match=r"^--params says both ") as error:
        renamed(joined(block(former, value), block(present, now)), "--params", print)
    assert former in str(error.value) and present in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_that_is_called_training_is_none_of_former_times() -> None:
    blocks = {"models": {"training": {"epochs": 2}}}
    assert renamed(blocks, "x.yml", pytest.fail) == blocks


@pytest.mark.parametrize("old", RENAMED)
def test_what_is_shipped_says_nothing_by_a_former_name(project_root: Path, old: str) -> None:
    for file in project_root.glob("conf/*/parameters*.yml"):
        content = yaml.safe_load(file.read_text())
        assert renamed(content, str(file), pytest.fail) == content


def test_what_a_file_says_by_former_names_takes_the_place_of_what_base_says(project, caplog) -> None:
    write(
        project,
        {
            "retraining_encoder": {"examination": {"parts": 2, "rounds": 3}, "norms": "fixed"},
            "feedback": {"copies": {"likeness": 0.5}, "caps": {"burst": 9}},
        },
    )
    loader = read_configuration(project, "mine")
    base, found = read_configuration(project, "base")["parameters"], loader["parameters"]
    expected = base["retraining_encoder"]["label_noise"] | {"folds": 2, "rounds": 3}
    assert found["retraining_encoder"]["label_noise"] == expected
    assert found["retraining_encoder"]["batch_norm"] == "frozen"
    assert found["feedback"]["rater_limits"] == base["feedback"]["rater_limits"] | {"burst": 9}
    assert found["feedback"]["repeated_corrections"]["similarity"] == 0.5
    assert loader["parameters"] == found
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == len(set(said)) == 5
    assert (
        "Parameter retraining_encoder.examination.parts is called retraining_encoder.label_noise.folds now:"
        " change it in conf/mine/parameters.yml"
    ) in said


def test_a_former_name_on_the_command_line_works(project, caplog) -> None:
    given = {"examination_rounds": 0, "encoder_adaptation": {"pooling": "some", "averaging": 0.4}}
    found = read_configuration(project, "flickr8k", given)["parameters"]
    assert found["retraining_encoder"]["label_noise"]["rounds"] == 0
    assert (found["encoder_adaptation"]["pooling"], found["encoder_adaptation"]["ema_decay"]) == (
        "log_sum_exp", 0.4
    )  # fmt: skip
    assert (
        "Parameter examination_rounds is called label_noise_rounds now: change it in --params" in caplog.text
    )


def test_the_command_line_says_more_than_a_file_by_whichever_name(project) -> None:
    write(project, {"retraining": {"grounding": 1.0}})
    given = {"retraining": {"new_word_strength": 2.0}}
    assert read_configuration(project, "mine", given)["parameters"]["retraining"]["new_word_strength"] == 2.0
    write(project, {"retraining": {"new_word_strength": 1.0}})
    given = {"retraining": {"grounding": 3.0}}
    assert read_configuration(project, "mine", given)["parameters"]["retraining"]["new_word_strength"] == 3.0


def test_both_names_in_two_files_of_an_environment_or_in_one_are_refused(project) -> None:
    write(project, {"drift": {"most": 500, "max_rows": 600}})
    with pytest.raises(
        ConfigurationError, match=r"^conf/mine/parameters.yml says both drift.most and drift.max_rows"
    ):
        read_configuration(project, "mine")["parameters"]
    write(project, {"drift": {"most": 500}})
    write(project, {"drift": {"max_rows": 600}}, "parameters_more.yml")
    with pytest.raises(ConfigurationError, match="Duplicate keys") as error:
        read_configuration(project, "mine")["parameters"]
    assert "\n" not in str(error.value)


def test_former_values_and_runtime_parameters_that_a_file_refers_to_work(project) -> None:
    (project / "conf/mine/globals.yml").write_text("corpus: mine\nnorms: fixed\n")
    write(
        project,
        {
            "encoder_adaptation": {"norms": "${globals:norms}"},
            "retraining_encoder": {"examination": {"rounds": "${runtime_params:examination_rounds,5}"}},
        },
    )
    found = read_configuration(project, "mine")["parameters"]
    assert found["encoder_adaptation"]["batch_norm"] == "frozen"
    assert found["retraining_encoder"]["label_noise"]["rounds"] == 5
    given = read_configuration(project, "mine", {"examination_rounds": 7})["parameters"]
    assert given["retraining_encoder"]["label_noise"]["rounds"] == 7


@pytest.mark.integration
def test_a_misspelt_former_name_is_told_with_the_present_one(project) -> None:
    from captionloop.conf_checks import check_configuration
    from captionloop.pipeline_registry import register_pipelines

    for given, meant in (
        ({"feedback": {"copie": {}}}, "feedback.repeated_corrections"),
        ({"feedback": {"repeated_corrections": {"likeness": 0.5}}}, "repeated_corrections.similarity"),
        ({"retraining": {"groundin": 1}}, "retraining.new_word_strength"),
        ({"retraining_encoder": {"label_noise": {"parts": 2}}}, "retraining_encoder.label_noise.folds"),
        ({"show_attend_tell": {"training": {"average_deca": 0.1}}}, "ema_decay"),
    ):
        write(project, given)
        with pytest.raises(ConfigurationError) as error:
            check_configuration(read_configuration(project, "mine"), register_pipelines())
        assert f"{meant}?" in str(error.value)
