"""The lineage that `make viz` draws is whole: nothing without a place or unused, layers in one order."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro_viz.services.layers import sort_layers

from captionloop.config import read_configuration
from captionloop.pipeline_registry import register_pipelines

ENVIRONMENTS = sorted(
    folder.name
    for folder in (Path(__file__).resolve().parents[2] / "conf").iterdir()
    if folder.is_dir() and folder.name not in {"base", "local"}
)


def configuration(project_root: Path, env: str) -> OmegaConfigLoader:
    return read_configuration(project_root, env)


@pytest.fixture(scope="module")
def everything() -> Pipeline:
    """All but `demo`, which makes some of the same from fewer models."""
    pipelines = register_pipelines()
    return sum((pipelines[name] for name in pipelines if name != "demo"), start=Pipeline([]))


@pytest.fixture(scope="module", params=["base", *ENVIRONMENTS])
def conf(request: pytest.FixtureRequest, project_root: Path) -> OmegaConfigLoader:
    return configuration(project_root, request.param)


@pytest.fixture(scope="module")
def catalog(conf: OmegaConfigLoader) -> DataCatalog:
    return DataCatalog.from_config(conf["catalog"])


def datasets(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("params:") and name != "parameters"}


def layer(catalog: DataCatalog, name: str) -> str | None:
    dataset = catalog.get(name)
    metadata = getattr(dataset, "metadata", None) or {}
    found: str | None = metadata.get("kedro-viz", {}).get("layer")
    return found


def test_every_dataset_of_a_pipeline_is_in_the_catalog_with_a_layer(
    everything: Pipeline, catalog: DataCatalog
) -> None:
    names = datasets(everything.datasets())
    assert not {name for name in names if catalog.get(name) is None}
    assert not {name for name in names if layer(catalog, name) is None}


def test_every_catalog_entry_is_used_by_a_pipeline(everything: Pipeline, conf: OmegaConfigLoader) -> None:
    patterns = DataCatalog.from_config(conf["catalog"]).config_resolver
    entries = {name for name in conf["catalog"] if not name.startswith("_")}
    used = datasets(everything.datasets())
    matched = {patterns.match_dataset_pattern(name) for name in used - entries}
    assert not entries - used - matched


def test_every_top_level_parameter_is_used_and_every_used_one_is_there(
    everything: Pipeline, conf: OmegaConfigLoader
) -> None:
    used = {
        name.removeprefix("params:").split(".")[0]
        for name in everything.inputs()
        if name.startswith("params:")
    }
    assert set(conf["parameters"]) == used


def test_layers_have_one_order(everything: Pipeline, catalog: DataCatalog) -> None:
    """Kedro-Viz shows no layers at all where two of them follow one another both ways."""
    nodes: dict[str, SimpleNamespace] = {}
    follows: dict[str, set[str]] = defaultdict(set)
    for name in datasets(everything.datasets()):
        nodes[name] = SimpleNamespace(layer=layer(catalog, name))
    for node in everything.nodes:
        nodes[f"node {node.name}"] = SimpleNamespace(layer=None)
        follows[f"node {node.name}"] |= datasets(node.outputs)
        for name in datasets(node.inputs):
            follows[name].add(f"node {node.name}")
    order = sort_layers(nodes, follows)
    assert order.index("raw") < order.index("intermediate") < order.index("feature") < order.index("models")
    assert order[-3:] == ["model_output", "reporting", "registry"]


def test_no_dataset_stands_alone(everything: Pipeline) -> None:
    """Each is written or read by a node, and what is only read is one of the project's known beginnings."""
    beginnings = {"raw_photos", "raw_corpus", "pretrained_weights", "model_registry", "feature_store"}
    beginnings |= {"other_hypotheses"}
    beginnings |= {
        "retraining_feature_store",
        "ratings_database",
        "erased_ratings",
        "photo_archive",
        "abuse_list",
    }
    beginnings |= {name for name in everything.inputs() if name.startswith("base_")}
    checkpoint_folders = {name for name in everything.inputs() if name.endswith("checkpoints")}
    assert datasets(everything.inputs()) <= beginnings | checkpoint_folders


def test_the_demo_goes_from_nothing_to_a_version_with_the_captioner_that_is_registered(
    conf: OmegaConfigLoader,
) -> None:
    pipelines = register_pipelines()
    demo = pipelines["demo"]
    made = {name.removesuffix(".captioner") for name in demo.all_outputs() if name.endswith(".captioner")}
    assert made == {"show_attend_tell"}
    assert "registered_version" in demo.outputs()
    assert demo.inputs() <= pipelines["__default__"].inputs()
    assert demo.all_outputs() < pipelines["__default__"].all_outputs()
    assert conf["parameters"]["registration"]["model"] in {*made, "pretrained"}


def test_the_lineage_opens_on_one_box_for_each_stage() -> None:
    """Kedro-Viz folds namespaces: every node is in one, and the outermost are the stages."""
    pipelines = register_pipelines()
    boxes = {
        name: {(node.namespace or "").split(".")[0] for node in pipelines[name].nodes} for name in pipelines
    }
    assert boxes["__default__"] == {
        "sample_scenes", "data_validation", "encoder_adaptation", "feature_caching", "training", "evaluation",
        "registration",
    }  # fmt: skip
    assert boxes["retraining"] == {"retraining"}
    steps = {node.namespace for node in pipelines["retraining"].nodes}
    assert steps == {
        f"retraining.{name}" for name in ("encoder", "caching", "training", "evaluation", "registration")
    }


def test_commands_of_tests_and_documents_name_nodes_that_there_are(
    everything: Pipeline, project_root: Path
) -> None:
    """A test that takes minutes should not be the first to say that a node has another name by now."""
    places = [*project_root.glob("tests/e2e/*.py"), *project_root.glob("docs/**/*.md")]
    places += [*project_root.glob("src/**/*.py"), *project_root.glob("pipelines/**/*.py")]
    text = "\n".join(path.read_text() for path in places)
    named = re.findall(r'--(?:from-|to-)?nodes[", \n]+([a-z_]\w*(?:\.\w+)*(?:,[\w.]+)*)', text)
    nodes = {node.name for node in everything.nodes}
    wanted = {each for names in named for each in names.split(",")}
    assert len(wanted) >= 4 and wanted <= nodes, wanted - nodes
