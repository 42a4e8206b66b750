"""What is wrong in `conf/` or `--params` is one line with the nearest name."""

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.pipeline import Pipeline

import captionloop.settings
from captionloop.conf_checks import check_configuration
from captionloop.config import (
    environment_of,
    project_folder,
    read_configuration,
    registered_model,
    tracking_uri,
)
from captionloop.errors import CaptionloopError, ConfigurationError
from captionloop.paths import nearest
from captionloop.pipeline_registry import register_pipelines

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    return register_pipelines()


@pytest.fixture
def project(own_project: Path) -> Path:
    """`own_project`, whose corpus is `mine`."""
    (own_project / "conf/mine/globals.yml").write_text("corpus: mine\n")
    return own_project


def params(*pairs: str) -> dict[str, Any]:
    """As `kedro run --params` reads them."""
    from omegaconf import OmegaConf

    container = OmegaConf.to_container(OmegaConf.from_dotlist(list(pairs)))
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def write(project: Path, name: str, content: object) -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (project / "conf/mine" / name).write_text(text)


def error_message(
    project: Path, pipelines: dict[str, Pipeline], *given: str, env: str | None = "mine"
) -> str:
    with pytest.raises(ConfigurationError) as error:
        check_configuration(read_configuration(project, env, params(*given)), pipelines)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("env", [None, "base", "flickr8k", "mine"])
def test_what_is_shipped_is_known_and_can_be_used(project, pipelines, env) -> None:
    check_configuration(read_configuration(project, env), pipelines)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("epoch=3", "Unknown parameter epoch in --params: did you mean epochs?"),
        ("workspac=x", "did you mean workspace?"),
        ("input_size=64", "did you mean encoder.input_size or encoder_adaptation.input_size"),
        ("show_attend_tell.epochs=3", "did you mean models.show_attend_tell?"),
        ("models.show_attend_tell.epoch=3", "did you mean models.show_attend_tell.epochs?"),
        ("models.show_attend_tell.epochs=many", "epochs='many' in --params cannot be used"),
        ("evaluation.resamples=-1", "evaluation.resamples=-1 in --params cannot be used"),
        ("encoder=64", "Parameter encoder in --params is 64, and must be a block of values"),
        ("workspace.a=1", "workspace is one value and has no parts"),
        (
            "registration.model=show_attend",
            "registration.model='show_attend' in --params is not trained here",
        ),
        ("least_ratings=0", "feedback.least_ratings=0 in --params least_ratings cannot be used"),
        ("encoder.precision=fp8", "Parameter encoder.precision='fp8' in --params cannot be used"),
        ("encoder.input_size=0", "encoder.input_size=0 in --params cannot be used"),
        ("encoder.architecture=resnet19", "did you mean resnet18"),
        ("evaluation.split=tset", "evaluation.split='tset' in --params cannot be used"),
        ("feature_caching.device=gpu", "feature_caching.device='gpu' in --params cannot be used"),
        ("shard=5/4", "shard '5/4' is not i/N"),
        ("models.show_attend_tell.seed=-1", "seed=-1 in --params cannot be used"),
        ("encoder.seed=99999999999999999999", "NumPy and PyTorch take seeds from 0 to"),
        ("language=klingon", "language: 'klingon' is not the code"),
        ("workspace=", "--params workspace= is empty: give it a value, or leave it out"),
        ("data=", "--params data= is empty"),
        ("models.show_attend_tell.decoder.attention_sise=3", "decoder.attention_size?"),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_told(project, pipelines, given, message) -> None:
    assert message in error_message(project, pipelines, given)


def test_a_parameter_that_something_uses_is_taken(project, pipelines) -> None:
    given = (
        "epochs=3", "mlflow_run=x", "tracking_uri=sqlite:///x.db", "ratings=sqlite:///r.db",
        "encoder_epochs=1", "shard=2/4", "data=/photos", "models.show_attend_tell.epochs=2",
        "feedback.since=2026-01-01",
        "models.show_attend_tell.decoder.kind=transformer",
    )  # fmt: skip
    check_configuration(read_configuration(project, "mine", params(*given)), pipelines)
    with pytest.raises(ConfigurationError, match="Unknown parameter epoch in --params"):  # each is looked at
        check_configuration(read_configuration(project, "mine", params(*given, "epoch=3")), pipelines)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("parameters.yml", {"encodr": {"input_size": 64}}, "Unknown parameter encodr in conf/mine/"),
        ("parameters.yml", {"encoder": {"input_sise": 64}}, "did you mean encoder.input_size?"),
        ("parameters.yml", {"encoder": None}, "Parameter encoder in conf/mine/parameters.yml is empty"),
        ("parameters.yml", {"epochs": 3}, "Unknown parameter epochs in conf/mine/parameters.yml"),
        ("parameters.yml", "encoder: {input_size: 64", "parameters.yml, line"),
        ("parameters.yml", "- 1\n- 2\n", "it must hold `name: value` pairs"),
        ("parameters.yml", "encoder: {input_size: '${globals:sise}'}", "Cannot resolve the parameters"),
        ("parameters.yml", "encoder.input_size: 64", "write it as a block, encoder: {input_size: ...}"),
        ("parameters.yml", "encoder:\n\tinput_size: 64", "parameters.yml, line 2 cannot be read"),
        ("parameters.yml", "encoder: {seed: 1}\nencoder: {seed: 2}", "found duplicate key encoder"),
        ("parameters.yml", "1: 2", "Unknown parameter 1 in conf/mine/parameters.yml"),
        ("paramters.yml", {"encoder": {"seed": 1}}, "paramters.yml: did you mean parameters.yml?"),
        ("global.yml", {"corpus": "mine"}, "global.yml: did you mean globals.yml?"),
        ("parameters.YML", {"encoder": {"seed": 1}}, "its name has to end in .yml"),
        ("parameters.yml.txt", {"encoder": {"seed": 1}}, "its name has to end in .yml"),
        ("globals.yml", {"corpus": "mine", "workspace": None}, "workspace in globals.yml is empty"),
        ("globals.yml", {"corpus": ""}, "corpus in globals.yml is empty"),
        ("globals.yml", {"corpus": "../mine"}, "corpus: '../mine' in globals.yml cannot be used"),
        ("globals.yml", {"corpus": ".."}, "corpus: '..' in globals.yml cannot be used"),
        ("globals.yml", {"corpus": "mine", "registered_model": "a/b"}, "registered_model: 'a/b'"),
        ("globals.yml", {"corpus": "mine", "language": "german"}, "the nearest is de, German"),
        ("catalog.yml", {"raw_photos": "photos"}, "Dataset raw_photos in conf/mine/catalog.yml says no type"),
        ("catalog.yml", {"raw_photos": {"filepath": "photos"}}, "says no type"),
        (
            "catalog.yml",
            {"raw_photos": {"type": "captionloop.datasets.PhotoFolderDatset", "filepath": "x"}},
            "did you mean captionloop.datasets.PhotoFolderDataset?",
        ),
        (
            "catalog.yml",
            {"raw_photos": {"type": "captionloop.datasets.PhotoFolderDataset", "filpath": "x"}},
            "unexpected keyword argument 'filpath'. Did you mean 'filepath'?",
        ),
        (
            "catalog.yml",
            {"raw_corpus": {"type": "captionloop.datasets.CorpusDataset", "format": "karpaty"}},
            "CorpusDataset knows no format 'karpaty'",
        ),
        ("globals.yml", {"corpus": "mine", "registerd_model": "x"}, "did you mean registered_model?"),
        ("catalog.yml", {"raw_photo": {"type": "MemoryDataset"}}, "did you mean raw_photos?"),
        ("catalog.yml", {"{modle}.captoiner": {"type": "MemoryDataset"}}, "did you mean {model}.captioner?"),
        ("catalog.yml", {"_data": "/elsewhere"}, "set workspace or corpus in globals.yml"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_told_with_its_name(
    project, pipelines, file, content, message
) -> None:
    write(project, file, content)
    assert message in error_message(project, pipelines)


@pytest.mark.parametrize("file", ["parameters.yml", "catalog.yml", "globals.yml", "mlflow.yml"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_that_is_not_utf8_is_told_with_its_name(project, pipelines, file, encoding) -> None:
    (project / "conf/mine" / file).write_bytes("# größer\n".encode(encoding))
    assert f"{file} is not UTF-8 text" in error_message(project, pipelines)


def test_a_store_that_is_no_block_is_told(project) -> None:
    write(project, "mlflow.yml", {"server": ["sqlite:///x.db"]})
    with pytest.raises(ConfigurationError, match=r"write server: \{mlflow_tracking_uri: <address>\}"):
        tracking_uri(project, "mine")


def test_what_does_not_look_like_configuration_is_nobody_s_business(project, pipelines, caplog) -> None:
    for name in ("parameters.yml~", "parameters.yml.orig", ".parameters.yml.swp", "notes.txt", "words.csv"):
        write(project, name, "encoder: {input_size: 64")
    write(project, "spark.yml", {"a": 1})
    check_configuration(read_configuration(project, "mine"), pipelines)
    assert "Nothing reads" in caplog.text and "spark.yml" in caplog.text
    assert "notes" not in caplog.text and "words" not in caplog.text and "orig" not in caplog.text


def test_the_code_of_norwegian_is_no_falsehood(project, pipelines) -> None:
    write(project, "globals.yml", "corpus: mine\nlanguage: no\n")
    assert read_configuration(project, "mine")["parameters"]["language"] == "no"
    check_configuration(read_configuration(project, "mine"), pipelines)


@pytest.mark.parametrize("env", [".", "..", "mine/", "../base", "/tmp", "base/.."])
def test_an_environment_is_a_folder_of_conf(project, env) -> None:
    with pytest.raises(ConfigurationError, match="There is no Kedro environment"):
        read_configuration(project, env)


def test_an_empty_file_says_nothing(project, pipelines) -> None:
    write(project, "parameters.yml", "")
    check_configuration(read_configuration(project, "mine"), pipelines)


def test_two_files_that_say_the_same_are_told(project, pipelines) -> None:
    write(project, "parameters.yml", {"encoder": {"seed": 1}})
    write(project, "parameters_more.yml", {"encoder": {"seed": 2}})
    assert "Duplicate keys" in error_message(project, pipelines)


def test_an_unknown_environment_is_told_whoever_names_it(project, monkeypatch) -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean flickr8k\?"):
        read_configuration(project, "flickr30k")
    monkeypatch.setenv("KEDRO_ENV", "flickr")
    with pytest.raises(ConfigurationError, match=r"no Kedro environment flickr in .* flickr8k\?"):
        tracking_uri(project)


def test_a_missing_conf_folder_is_told(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="There is no configuration in"):
        read_configuration(tmp_path)


def test_nobody_has_to_keep_an_empty_conf_local(project) -> None:
    assert not (project / "conf/local").exists()
    assert read_configuration(project)["globals"]["corpus"] == "sample_scenes"


def test_one_own_value_leaves_the_others_of_its_block(project) -> None:
    write(project, "parameters.yml", {"encoder": {"input_size": 64}})
    base = read_configuration(project, "base")["parameters"]["encoder"]
    assert read_configuration(project, "mine")["parameters"]["encoder"] == base | {"input_size": 64}


def test_a_value_on_the_command_line_leaves_the_others_of_its_block(project) -> None:
    write(project, "parameters.yml", {"drift": {"rare": 2}})
    found = read_configuration(project, "mine", params("encoder.input_size=64"))["parameters"]["encoder"]
    assert found == read_configuration(project, "base")["parameters"]["encoder"] | {"input_size": 64}


def test_a_block_of_another_kind_replaces_the_block(project) -> None:
    write(project, "parameters.yml", {"models": {"show_attend_tell": {"decoder": {"kind": "transformer"}}}})
    now, base = (read_configuration(project, env)["parameters"]["models"] for env in ("mine", "base"))
    assert now["show_attend_tell"]["decoder"] == {"kind": "transformer"}
    assert now["show_attend_tell"]["epochs"] == base["show_attend_tell"]["epochs"]


def test_what_the_sample_scenes_chose_does_not_leak_into_flickr8k(project) -> None:
    found = read_configuration(project, "flickr8k")["parameters"]
    assert found["retraining"]["dropout"] is found["retraining"]["feature_dropout"] is None
    encoder = found["retraining_encoder"]
    assert (encoder["epochs"], encoder["replay"], encoder["pooling"]) == (0, 400, "mean")
    assert (encoder["learning_rate"], encoder["head_learning_rate"]) == (1e-3, 3e-3)
    assert encoder["augmentation"] == {
        "smallest_area": 0.5, "mirror": True, "brightness": 0.2, "saturation": 0.3
    }  # fmt: skip
    assert found["encoder"]["layer"] is None
    assert found["data_validation"]["report"].endswith("flickr8k/validation_report.json")


def test_what_an_environment_says_of_its_photos_holds_for_retraining(project) -> None:
    write(project, "catalog.yml", {"raw_photos": {"type": "x", "filepath": "/elsewhere"}})
    catalog = read_configuration(project, "mine", {"workspace": "data/runs/one"})["catalog"]
    assert catalog["base_photos"] == catalog["raw_photos"]
    scenes = read_configuration(project, "base", {"workspace": "data/runs/one"})["catalog"]
    assert scenes["base_photos"]["filepath"] == "data/01_raw/sample_scenes/photos"
    flickr = read_configuration(project, "flickr8k", {"data": "/flickr"})["catalog"]
    assert flickr["base_photos"]["filepath"] == "/flickr/images"


def test_every_corpus_has_a_registered_model_of_its_own(project, monkeypatch) -> None:
    assert registered_model(project) == "captioner"
    assert registered_model(project, "mine") == "captioner_mine"
    assert read_configuration(project, "mine")["catalog"]["model_registry"]["name"] == "captioner_mine"
    assert environment_of("mine", project) == "mine"
    assert environment_of("sample_scenes", project) is None
    with pytest.raises(ConfigurationError, match=r"did you mean flickr8k\?"):
        environment_of("flickr8", project)
    write(project, "globals.yml", {"corpus": "mine", "registered_model": "tagger"})
    assert registered_model(project, "mine") == "tagger"
    monkeypatch.setenv("CAPTIONLOOP_REGISTRY_NAME", "other")
    names = {registered_model(project), read_configuration(project)["catalog"]["model_registry"]["name"]}
    assert names == {"other"}


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "CAPTIONLOOP_REGISTRY"])
def test_one_mlflow_store_for_all(project, variable, monkeypatch) -> None:
    from captionloop.serving.model_sources import RegistrySource, choose_source
    from captionloop.serving.service_settings import Settings

    def everywhere() -> set[str]:
        source = choose_source(Settings.from_environment())
        assert isinstance(source, RegistrySource)
        configured = read_configuration(project)["mlflow"]["server"]["mlflow_tracking_uri"]
        return {tracking_uri(project), configured, source._registry.tracking_uri}

    monkeypatch.chdir(project / "conf/base")  # from any folder of the project
    assert everywhere() == {f"sqlite:///{project}/mlflow.db"}
    monkeypatch.setenv(variable, "sqlite:///other.db")
    assert everywhere() == {f"sqlite:///{project}/other.db"}
    given = read_configuration(project, None, {"tracking_uri": "http://mlflow:5000"})["mlflow"]
    assert given["server"]["mlflow_tracking_uri"] == "http://mlflow:5000"


def test_two_variables_that_name_two_stores_are_told(project, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a")
    monkeypatch.setenv("CAPTIONLOOP_REGISTRY", "http://b")
    with pytest.raises(CaptionloopError, match="MLFLOW_TRACKING_URI and CAPTIONLOOP_REGISTRY name two"):
        tracking_uri(project)


def test_the_service_keeps_its_state_in_the_project_from_any_of_its_folders(project, monkeypatch) -> None:
    from captionloop.serving.service_settings import Settings

    monkeypatch.delenv("CAPTIONLOOP_STATE", raising=False)
    monkeypatch.chdir(project / "conf/base")
    assert project_folder() == project
    assert Settings.from_environment({}).state == project / "data/service"


def test_a_misspelt_variable_is_told_with_the_nearest_name() -> None:
    from captionloop.serving.service_settings import Settings

    environment = {"CAPTIONLOOP_DATABSE": "x", "CAPTIONLOOP_URL": "y", "CAPTIONLOOP_STATE": "z", "HOME": "h"}
    (line,) = Settings.misspelt(environment)
    assert line == "Nothing reads CAPTIONLOOP_DATABSE: did you mean CAPTIONLOOP_DATABASE?"


def test_what_kubernetes_sets_beside_a_service_of_our_name_is_not_ours() -> None:
    from captionloop.serving.service_settings import Settings

    environment = {
        "CAPTIONLOOP_SERVICE_HOST": "10.0.0.1",
        "CAPTIONLOOP_SERVICE_PORT_HTTP": "3000",
        "CAPTIONLOOP_PORT": "tcp://10.0.0.1:3000",
        "CAPTIONLOOP_PORT_3000_TCP_ADDR": "10.0.0.1",
        "CAPTIONLOOP_METRIC_PORT": "9100",
    }
    assert Settings.misspelt(environment) == [
        "Nothing reads CAPTIONLOOP_METRIC_PORT: did you mean CAPTIONLOOP_METRICS_PORT?"
    ]


def test_every_variable_of_ours_that_the_project_reads_is_known(project_root) -> None:
    import re
    import subprocess

    from captionloop.serving.service_settings import Settings

    found = subprocess.run(
        ["git", "grep", "-hoE", r"CAPTIONLOOP_[A-Z_]+[A-Z]", "--", "src", "dags", "deploy", "docs"],
        cwd=project_root, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    prefixes = {"CAPTIONLOOP_E", "CAPTIONLOOP_AIRFLOW", "CAPTIONLOOP_ALERTS"}  # of longer names
    names = {name for name in found if re.fullmatch(r"CAPTIONLOOP_[A-Z_]+", name)} - prefixes
    assert Settings.misspelt(dict.fromkeys(names, "x")) == []


def test_the_nearest_name_is_named_or_all_of_a_few() -> None:
    assert nearest("epoch", ["epochs", "margin"]) == "did you mean epochs?"
    assert nearest("zzz", ["b", "a"]) == "there are a, b"
    assert nearest("zzz", [str(number) for number in range(100)]) == "check the spelling"


def test_what_plugins_start_is_found_without_the_environment_on_the_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/bin", "/bin"]))
    importlib.reload(captionloop.settings)
    assert shutil.which("mlflow")


FORMER = {
    "raw_photos": (
        "captionloop.datasets.photos.PhotoFolderDataset",
        "captionloop.datasets.PhotoFolderDataset",
    ),
    "curves": ("captionloop.datasets.metrics.RunCurvesDataset", "captionloop.datasets.TrackedCurvesDataset"),
    "steps": ("captionloop.datasets.WorkbenchDataset", "captionloop.datasets.CheckpointFolderDataset"),
}


@pytest.mark.parametrize("name", FORMER)
def test_a_dataset_under_its_former_name_works_and_the_new_one_is_told(project, caplog, name) -> None:
    former, now = FORMER[name]
    write(project, "catalog_own.yml", {name: {"type": former, "path": "data/photos"}})
    assert read_configuration(project, "mine")["catalog"][name]["type"] == now
    assert f"Dataset {name}: its type {former} is called {now} now" in caplog.text


def test_every_type_of_the_catalog_is_there_and_none_has_a_former_name(project, caplog) -> None:
    catalog = read_configuration(project, "base")["catalog"]
    types = {entry["type"] for entry in catalog.values() if entry["type"].startswith("captionloop.")}
    assert types and "is called" not in caplog.text
    for each in types:
        module, _, name = each.rpartition(".")
        assert getattr(importlib.import_module(module), name).__name__ == name
