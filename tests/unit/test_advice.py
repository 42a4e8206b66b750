"""What an error advises, works: messages that name something to do are raised, and their advice is followed.

A new message with an advice fails `test_every_advice_has_been_tried` until it stands in `TRIED`.
"""

import ast
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.io import DatasetError

from captionloop import config, paths
from captionloop.cli import main
from captionloop.conf_checks import check_configuration
from captionloop.corpus.tables import RawCorpus
from captionloop.datasets.corpus_datasets import CorpusDataset, PhotoFolderDataset
from captionloop.errors import CaptionloopError, ConfigurationError, CorpusError, EncoderError, RegistryError
from captionloop.photos import PhotoFolder
from captionloop.pipeline_registry import register_pipelines
from captionloop.registry.model_registry import ModelRegistry

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
ADVICE = re.compile(
    r"`\w|\bmake [a-z]|captionloop [a-z]+ |kedro run|[A-Z]+_[A-Z]+|--[a-z]|\bset [a-z]|\blower |\.yml"
    r"|; run |: run "
)

HERE = "here: "
ELSEWHERE = "raised in "  # where the mistake and what mends it are both plain from the test
PIPELINE = "by a pipeline: "  # what it says to run makes the file anew; the tests of pipelines do that
BY_HAND = "by hand: "
TRIED = {
    "captioner/model_memory.py: {}: the model needs": ELSEWHERE + "captioner/test_model_memory.py",
    "hooks.py: registration.model is": ELSEWHERE + "test_hooks.py",
    "commands/gold.py: there is no corpus": PIPELINE + "data_validation",
    "commands/shadow_and_canary.py: There is no {}": ELSEWHERE + "../e2e/test_service_canary.py",
    "commands/shadow_and_canary.py: Which VERSION": ELSEWHERE + "../e2e/test_service_canary.py",
    "registry/promotion.py: Version {} of {} is the {} at present": ELSEWHERE + "registry/test_trials.py",
    "commands/verification.py: the Prometheus at": ELSEWHERE + "commands/test_canaries.py",
    "corpus/scenes/render.py: The facts of the scenes": PIPELINE + "sample_scenes",
    "evaluation/evaluation_set.py: There is no evaluation set number": ELSEWHERE + "evaluation/test_split.py",
    "registry/promotion.py: Nothing to roll back to": ELSEWHERE + "registry/test_model_registry.py",
    "registry/promotion.py: The champion of {} was changed": ELSEWHERE + "registry/test_promotion.py",
    "serving/gateway/middleware.py: {}: see CAPTIONLOOP_CORS_ORIGINS": ELSEWHERE + "serving/test_manners.py",
    "client.py: {} keeps nothing": ELSEWHERE + "test_client.py",
    "captioner/bundle.py: {}: bundle format {} is newer": BY_HAND + "needs a newer captionloop",
    "captioner/families.py: {}: the weights are not finite": PIPELINE + "training",
    "captioner/pretrained/text_sides.py: {}: which token": BY_HAND
    + "needs a model without a generation's settings",
    "captioner/pretrained/vision_tower.py: {} is damaged": PIPELINE + "pretrained",
    "serving/bento.py: {} refers to a model": BY_HAND + "needs a Bento's build",
    "training/training_parameters.py: pretrained.captioner": ELSEWHERE
    + "../e2e/test_pretrained_captioner.py",
    "training/caption_data.py: photo {}: its cached features": PIPELINE + "feature_caching",
    "training/processes.py: Training '{}': process {}": BY_HAND + "needs a process that is killed",
    "training/processes.py: Training '{}': processes.nodes": BY_HAND + "needs several machines",
    "training/processes.py: Training '{}': torchrun": BY_HAND + "needs torchrun",
    "commands/erasing.py: say what to erase": ELSEWHERE + "commands/test_erasing.py",
    "commands/erasing.py: there is no ratings database": ELSEWHERE + "commands/test_erasing.py",
    "commands/admin.py: there is no key": HERE + "test_list_the_keys",
    "commands/admin.py: there is no valid key": ELSEWHERE + "commands/test_keys.py",
    "ratings/api_keys.py: there is no valid key": ELSEWHERE + "commands/test_keys.py",
    "ratings/database.py: the ratings database has no tables": ELSEWHERE + "ratings/test_database.py",
    "ratings/database.py: the ratings database is of revision": ELSEWHERE + "ratings/test_database.py",
    "paths.py: There is no home folder": ELSEWHERE + "test_paths.py",
    "provenance/incremental.py: --only-missing-outputs": PIPELINE + "the same one without --runner",
    "serving/gateway/auth.py: CAPTIONLOOP_RATE_LIMIT_STORAGE": ELSEWHERE + "serving/test_access.py",
    "vision/timm_models.py: encoder '{}' is fed photos with a border": ELSEWHERE
    + "vision/test_timm_models.py",
    "vision/timm_models.py: encoder '{}' cannot be fed another size": ELSEWHERE
    + "vision/test_timm_models.py",
    "vision/encoder.py: {}: the encoder's weights": PIPELINE + "encoder_adaptation",
    "captioner/bundle.py: {} is not what this": BY_HAND + "needs a newer captionloop",
    "commands/report.py: There is no report": PIPELINE + "the one of the step",
    "datasets/model_datasets.py: no features": PIPELINE + "feature_caching",
    "datasets/model_datasets.py: {} is not a list": PIPELINE + "feature_caching",
    "evaluation/predictions.py: The cached features": PIPELINE + "feature_caching,training",
    "evaluation/evaluation_set.py: {} photos of split": PIPELINE + "data_validation",
    "vision/encoder.py: {} is damaged": PIPELINE + "encoder_adaptation",
    "vision/feature_store.py: features in {} are not complete": PIPELINE + "feature_caching",
    "vision/feature_rows.py: features in {} are damaged": ELSEWHERE + "vision/test_store.py",
    "vision/feature_rows.py: the features of photo {}": ELSEWHERE + "vision/test_store.py",
    "vision/feature_rows.py: the feature store {} cannot be used": ELSEWHERE
    + "vision/test_object_storage.py",
    "vision/feature_store.py: the feature store {} was written": ELSEWHERE + "vision/test_legacy_shards.py",
    "vision/feature_store.py: the feature store {} cannot be read": ELSEWHERE + "vision/test_removal.py",
    "vision/legacy_shards.py: the feature store {} cannot be migrated": ELSEWHERE
    + "vision/test_legacy_shards.py",
    "vision/feature_store.py: photo {} has no cached": PIPELINE + "feature_caching",
    "captioner/ensembling.py: '{}' and '{}' know different words": ELSEWHERE + "captioner/test_ensembling.py",
    "commands/caption.py: No captioning service answers": ELSEWHERE + "test_cli.py",
    "commands/caption.py: {} answered {}, but not": ELSEWHERE + "test_cli.py",
    "commands/canaries.py: There is no photo in": ELSEWHERE + "commands/test_canaries.py",
    "commands/canaries.py: There is no evaluation set": ELSEWHERE + "commands/test_canaries.py",
    "commands/caption.py: --attention draws one": ELSEWHERE + "test_cli.py",
    "commands/caption.py: --url asks": ELSEWHERE + "test_cli.py",
    "commands/serve.py: --model and --version": HERE + "test_give_one_of_model_and_version",
    "commands/model_lookup.py: {} in {} cannot be read": HERE
    + "test_a_report_that_cannot_be_read_is_made_anew",
    "commands/model_lookup.py: There is no model": HERE + "test_give_a_model_where_there_is_none",
    "commands/report.py: --since": ELSEWHERE + "commands/test_ratings.py",
    "commands/report.py: There is no evaluation": HERE + "test_name_another_workspace",
    "commands/serve.py: There is no model": HERE + "test_set_the_model_to_serve",
    "commands/serve.py: Another `captionloop serve` holds": HERE + "test_one_of_two_takes_another_address",
    "commands/serve.py: Nothing can listen": HERE + "test_give_another_port",
    "conf_checks.py: Nothing in {} uses": HERE + "test_set_the_workspace_in_globals",
    "conf_checks.py: --params {}: {} is one value": ELSEWHERE + "test_conf_loader.py",
    "config.py: No MLflow store": HERE + "test_set_the_tracking_uri",
    "paths.py: No MLflow store can lie": HERE + "test_rename_a_place_that_no_address_can_name",
    "paths.py: {} name two MLflow stores": HERE + "test_unset_one_of_two_stores",
    "commands/report.py: {} is not as a run writes it": PIPELINE + "evaluation,registration",
    "conf_checks.py: --params {}= is empty": HERE + "test_leave_an_empty_value_out_or_give_it",
    "conf_loader.py: mlflow.yml: server is": HERE + "test_write_the_store_as_a_block",
    "config.py: CAPTIONLOOP_PROJECT": HERE + "test_unset_a_project_that_is_no_folder",
    "config.py: {} cannot be read without": BY_HAND + "needs an environment without Kedro",
    "config.py: There is no configuration": HERE + "test_run_it_inside_the_project",
    "conf_loader.py: There is no configuration": HERE + "test_run_it_inside_the_project",
    "datasets/corpus_datasets.py: {} holds captions": HERE + "test_drawn_scenes_go_into_another_folder",
    "datasets/corpus_datasets.py: {} holds photos": HERE + "test_drawn_scenes_go_into_another_folder",
    "evaluation/evaluation_set.py: Split {} has no photos": HERE + "test_set_the_split",
    "photos.py: photo storage": HERE + "test_name_a_folder_for_photos",
    "ratings/database.py: CAPTIONLOOP_DATABASE is not": HERE + "test_write_a_database_url",
    "ratings/database.py: the ratings database is of a version": BY_HAND + "needs a newer captionloop",
    "ratings/database.py: the ratings database does not answer": HERE + "test_write_a_database_url",
    "feedback/nodes.py: {} has no champion": HERE + "test_promote_a_champion",
    "ratings/reader.py: there is no ratings database": HERE + "test_name_the_ratings_database",
    "corpus/scenes/phrases.py: the sample scenes are not described": HERE + "test_set_the_language",
    "evaluation/predictions.py: {} captions in {}": PIPELINE + "training,evaluation",
    "ratings/database.py: CAPTIONLOOP_DATABASE takes no options": HERE + "test_write_a_database_url",
    "languages.py: language: {} is not the code": HERE + "test_set_the_language",
    "tokenizer.py: Captions: no word": HERE + "test_lower_the_least_frequency",
    "registry/tracking.py: The MLflow store": HERE + "test_correct_the_tracking_uri",
    "registry/model_registry.py: There is no {} {}": HERE + "test_list_the_versions",
    "registry/model_registry.py: {} version {} is of the corpus": HERE + "test_give_a_corpus_its_own_model",
    "registry/model_registry.py: Nothing to roll back to": HERE + "test_choose_another_version_by_hand",
    "registry/signing.py: {} is signed by key {}, which was trusted": ELSEWHERE
    + "registry/test_signatures.py",
    "registry/signing.py: {} is not signed, and {} is set": ELSEWHERE + "registry/test_signatures.py",
    "registry/signing.py: The signature of {} cannot be read": ELSEWHERE + "registry/test_signatures.py",
    "registry/signing.py: {}={} holds no public key": ELSEWHERE + "registry/test_signatures.py",
    "serving/gateway/idempotency.py: This Idempotency-Key was sent": ELSEWHERE
    + "serving/test_idempotency.py",
    "serving/gateway/idempotency.py: What was captioned under this": ELSEWHERE
    + "serving/test_idempotency.py",
    "scoring/java_metrics.py: Java for the caption metrics": BY_HAND + "installs a package",
    "scoring/java_metrics.py: {} cannot be started": BY_HAND + "installs a package",
    "ratings/api_keys.py: there is no key": HERE + "test_list_the_keys",
    "serving/bento.py: package {} is needed": BY_HAND + "installs a package",
    "serving/bento.py: {} is there already": HERE + "test_give_one_of_model_and_version",
    "serving/bento.py: there is no bentofile.yaml": ELSEWHERE + "test_cli.py",
    "serving/service_settings.py: CAPTIONLOOP_PAGE": HERE + "test_name_a_built_page",
    "serving/model_sources.py: {} is not a bundle": HERE + "test_set_the_model_to_serve",
    "training/nodes.py: The cached features": ELSEWHERE + "pipelines/test_training.py",
    "vision/feature_caching.py: the encoder computes": HERE + "test_set_the_precision_that_the_machine_has",
    "vision/feature_caching.py: photo {} has changed": ELSEWHERE + "vision/test_caching.py",
    "vision/concepts.py: no word of the captions": HERE
    + "test_without_concepts_no_epochs_or_a_lower_minimum",
    "leases.py: {} could not be renewed": ELSEWHERE + "test_leases.py",
    "vision/encoder.py: no encoder in": ELSEWHERE + "pipelines/test_encoder_adaptation.py",
    "vision/ray_jobs.py: engine=ray needs Ray": ELSEWHERE + "vision/test_ray_jobs.py",
    "vision/ray_jobs.py: no Ray cluster at": BY_HAND + "needs an address where nobody answers",
    "vision/ray_jobs.py: the Ray job failed": BY_HAND + "needs a cluster that breaks",
    "vision/ray_jobs.py: the Ray cluster has": ELSEWHERE + "vision/test_ray_jobs.py",
    "vision/feature_store.py: cannot write": ELSEWHERE + "vision/test_store.py",
}
"""Where the advice of each message, by its module and beginning, is carried out."""


def advices() -> Iterator[str]:
    """`module: message` of everything that is raised with an advice; what is filled in is `{}`."""
    for root in (ROOT / "src/captionloop", ROOT / "pipelines"):
        for file in sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    message = "".join(text(each) for each in node.exc.args)
                    if ADVICE.search(message):
                        yield f"{file.relative_to(root)}: {message}"


def text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(written)):
            return written
        case ast.JoinedStr():
            return "".join(text(part) for part in node.values)
        case ast.FormattedValue():
            return "{}"
        case ast.BinOp():
            return text(node.left) + text(node.right)
        case ast.IfExp():
            return text(node.body) + text(node.orelse)
    return ""


def test_every_advice_has_been_tried() -> None:
    assert [advice for advice in advices() if not any(advice.startswith(known) for known in TRIED)] == []


@pytest.mark.parametrize("where", sorted(set(TRIED.values())))
def test_what_is_said_to_try_an_advice_is_there(where: str) -> None:
    if where.startswith(HERE):
        assert callable(globals()[where.removeprefix(HERE)])
    elif where.startswith(ELSEWHERE):
        assert (ROOT / "tests/unit" / where.removeprefix(ELSEWHERE)).is_file()
    else:
        assert where.startswith((BY_HAND, PIPELINE))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with our configuration, as the current folder, and nothing in it."""
    for name in ("MLFLOW_TRACKING_URI", "CAPTIONLOOP_REGISTRY", "CAPTIONLOOP_PROJECT", "KEDRO_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CAPTIONLOOP_STATE", str(tmp_path / "state"))
    shutil.copytree(ROOT / "conf/base", tmp_path / "conf/base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(project: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of an empty MLflow store, which the project uses."""
    shutil.copy(mlflow_store.removeprefix("sqlite:///"), project / "mlflow.db")
    return f"sqlite:///{project / 'mlflow.db'}"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.decoders import build_decoder
    from captionloop.captioner.model_config import DecodingOptions, ShowAndTellConfig
    from captionloop.tokenizer import CaptionTokenizer
    from captionloop.vision.encoder import Encoder, EncoderSpec

    torch.manual_seed(0)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64))
    tokenizer = CaptionTokenizer.train(["a red box", "two green dots"])
    decoder = build_decoder(
        ShowAndTellConfig(embedding=4, hidden=4),
        vocabulary_size=tokenizer.vocabulary_size,
        channels=encoder.channels,
    )
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    Captioner("tiny", encoder, decoder, tokenizer, DecodingOptions()).save(folder)
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(message: str, *arguments: object) -> None:
    result = call(*arguments)
    assert result.exit_code == 1 and message in result.stderr.splitlines()[-1], result.output


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_without_concepts_no_epochs_or_a_lower_minimum() -> None:
    from captionloop.pipelines.encoder_adaptation.nodes import find_concepts

    from captionloop.training.training_parameters import AdaptationParameters

    images = pd.DataFrame({"image_id": ["a", "b"], "split": "train"})
    captions = pd.DataFrame({"image_id": ["a", "b"], "text": ["a red box", "a red ball"]})
    parameters = AdaptationParameters(epochs=1, concepts={"minimum_images": 3, "minimum_lift": 0})
    with pytest.raises(CorpusError, match=r"set encoder_adaptation\.epochs to 0"):
        find_concepts(images, captions, parameters, "en")
    assert find_concepts(images, captions, parameters.model_copy(update={"epochs": 0}), "en").empty
    lower = parameters.concepts.model_copy(update={"minimum_images": 2})
    lowered = parameters.model_copy(update={"concepts": lower})
    assert len(find_concepts(images, captions, lowered, "en"))


def test_lower_the_least_frequency() -> None:
    from captionloop.tokenizer import CaptionTokenizer

    with pytest.raises(CorpusError, match="lower `min_frequency`"):
        CaptionTokenizer.train(["a red box"], min_frequency=2)
    assert CaptionTokenizer.train(["a red box"], min_frequency=1).vocabulary_size > 3


def test_set_the_language() -> None:
    from captionloop.corpus.scenes.phrases import phrases_of
    from captionloop.languages import language_of

    with pytest.raises(ConfigurationError, match=r"set `language` in conf/base/globals\.yml to one of"):
        language_of("klingon")
    with pytest.raises(ConfigurationError, match="only in en, fr, zh: set `language` to one of these"):
        phrases_of(language_of("fi"))
    assert phrases_of(language_of("fr")) is not None


def test_set_the_split() -> None:
    from captionloop.evaluation.evaluation_set import choose_split

    images = pd.DataFrame({"source": ["corpus"], "split": ["train"]})
    with pytest.raises(CorpusError, match=r"set evaluation\.split"):
        choose_split(images, "auto")
    assert choose_split(images, "train") == "train"


def test_set_the_precision_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from captionloop.vision.encoder import Encoder, EncoderSpec
    from captionloop.vision.feature_caching import _check_precision

    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64, precision="bfloat16"))
    runtime = SimpleNamespace(name="float32 alone", precision="float32")
    with pytest.raises(EncoderError, match=r"set encoder\.precision to float32"):
        _check_precision(encoder, runtime)  # type: ignore[arg-type]
    spec = encoder.spec.model_copy(update={"precision": "float32"})
    _check_precision(Encoder.build(spec), runtime)  # type: ignore[arg-type]


def test_drawn_scenes_go_into_another_folder(tmp_path: Path) -> None:
    PhotoFolder(str(tmp_path / "mine")).write("dog.jpg", b"mine")
    with pytest.raises(DatasetError, match="choose another folder"):
        PhotoFolderDataset(filepath=str(tmp_path / "mine")).save([("a.jpg", b"drawn")])
    PhotoFolderDataset(filepath=str(tmp_path / "drawn")).save([("a.jpg", b"drawn")])
    assert PhotoFolder(str(tmp_path / "mine")).names() == ["dog.jpg"]
    (tmp_path / "captions.json").write_text("{}")
    columns = pd.DataFrame({"image_id": [], "uri": [], "split": []})
    drawn = RawCorpus(columns, pd.DataFrame({"caption_id": [], "image_id": [], "text": []}))
    with pytest.raises(DatasetError, match="choose another file"):
        CorpusDataset(format="karpathy", filepath=str(tmp_path / "captions.json")).save(drawn)
    CorpusDataset(format="karpathy", filepath=str(tmp_path / "drawn.json")).save(drawn)


def test_set_the_workspace_in_globals(project: Path) -> None:
    mine = project / "conf/mine"
    mine.mkdir()
    (mine / "catalog.yml").write_text("_data: /elsewhere\n")
    with pytest.raises(ConfigurationError, match=r"set workspace or corpus in globals\.yml"):
        check_configuration(config.read_configuration(project, "mine"), register_pipelines())
    (mine / "catalog.yml").unlink()
    (mine / "globals.yml").write_text("workspace: /elsewhere\n")
    catalog = config.read_configuration(project, "mine")["catalog"]
    assert catalog["images"]["filepath"].startswith("/elsewhere/")


def test_leave_an_empty_value_out_or_give_it(project: Path) -> None:
    def checked(**given: str | None) -> None:
        check_configuration(config.read_configuration(project, "base", given), register_pipelines())

    for name in ("workspace", "weights", "feature_store"):
        with pytest.raises(ConfigurationError, match="give it a value, or leave it out"):
            checked(**{name: None})
        checked(**{name: "here"})
    checked()


def test_write_the_store_as_a_block(project: Path) -> None:
    file = project / "conf/base/mlflow.yml"
    file.write_text("server: sqlite:///x.db")
    with pytest.raises(ConfigurationError, match=r"write server: \{mlflow_tracking_uri: <address>\}"):
        config.tracking_uri(project)
    file.write_text("server: {mlflow_tracking_uri: 'sqlite:///x.db'}")
    assert config.tracking_uri(project) == f"sqlite:///{project / 'x.db'}"


def test_set_the_tracking_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="or set MLFLOW_TRACKING_URI"):
        config.tracking_uri(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert config.tracking_uri(tmp_path) == "http://mlflow:5000"


def test_rename_a_place_that_no_address_can_name(tmp_path: Path) -> None:
    place = tmp_path / "what?"
    with pytest.raises(ConfigurationError, match="rename it, or set MLFLOW_TRACKING_URI"):
        paths.anchored("sqlite:///mlflow.db", place)
    assert paths.anchored(f"sqlite:///{tmp_path}/mlflow.db", place) == f"sqlite:///{tmp_path}/mlflow.db"
    assert paths.anchored("sqlite:///mlflow.db", tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_unset_one_of_two_stores(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a")
    monkeypatch.setenv("CAPTIONLOOP_REGISTRY", "http://b")
    refused("unset one of them", "models", "list")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert config.tracking_uri(project) == "http://b"


def test_unset_a_project_that_is_no_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", "/nowhere")
    refused("correct it or unset it", "models", "list")
    monkeypatch.delenv("CAPTIONLOOP_PROJECT")
    assert call("models", "list").exit_code == 0


def test_run_it_inside_the_project(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="inside the project's folder"):
        config.read_configuration(tmp_path / "nowhere")
    assert config.read_configuration(config.project_folder())["globals"]["corpus"]


def test_correct_the_tracking_uri(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    refused("correct MLFLOW_TRACKING_URI", "models", "list")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert call("models", "list").exit_code == 0


def test_list_the_versions(store: str, bundle: Path) -> None:
    ModelRegistry(store).register(bundle)
    refused("see captionloop models list", "models", "show", 7)
    assert call("models", "list").stdout.splitlines()[1].startswith("1 ")


def test_choose_another_version_by_hand(store: str, bundle: Path) -> None:
    registry = ModelRegistry(store)
    registry.register(bundle)
    registry.promote(1)
    refused("by hand with captionloop models promote", "models", "rollback")
    assert call("models", "promote", 1).exit_code == 0


def test_promote_a_champion(store: str, bundle: Path) -> None:
    from captionloop.pipelines.feedback.nodes import fetch_champion

    registry = ModelRegistry(store)
    registry.register(bundle)
    with pytest.raises(RegistryError, match="or promote one with captionloop models promote"):
        fetch_champion(registry)
    assert call("models", "promote", 1).exit_code == 0
    assert fetch_champion(registry)[2]["version"] == 1


def test_give_a_corpus_its_own_model(project: Path, store: str, bundle: Path) -> None:
    registry = ModelRegistry(store, corpus="sample_scenes")
    registry.register(bundle)
    registry.promote(1)
    (project / "conf/mine").mkdir()
    settings = project / "conf/mine/globals.yml"
    settings.write_text("corpus: mine\nregistered_model: captioner\n")
    name = config.registered_model(project, "mine")
    with pytest.raises(RegistryError, match=r"a registered_model of its own in its globals\.yml"):
        ModelRegistry(store, name, corpus="mine").register(bundle)
    settings.write_text("corpus: mine\nregistered_model: tagger\n")
    name = config.registered_model(project, "mine")
    assert ModelRegistry(store, name, corpus="mine").register(bundle).version == 1


def test_give_a_model_where_there_is_none(store: str, bundle: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    refused("or give --model", "caption", tmp_path / "red.png")
    assert call("caption", tmp_path / "red.png", "--model", bundle).exit_code == 0


def test_give_one_of_model_and_version(store: str, bundle: Path, tmp_path: Path) -> None:
    refused("give one of them", "package", "--model", bundle, "--version", 1)
    # Past that check, and refused for what is checked next, before anything is built.
    refused("give --output a folder that is not", "package", "--model", bundle, "--output", tmp_path)
    refused("inside the project", "package", "--model", bundle, "--output", tmp_path / "new")


def test_a_report_that_cannot_be_read_is_made_anew(project: Path) -> None:
    from captionloop.commands.model_lookup import Catalog
    from captionloop.datasets.atomic_datasets import AtomicJSONDataset

    place = project / "data/08_reporting/sample_scenes/evaluation.json"
    place.parent.mkdir(parents=True)
    place.write_text("{")
    refused("run kedro again to make it anew", "report")
    AtomicJSONDataset(filepath=str(place)).save({"photos": 1})
    assert Catalog(project).load("evaluation") == {"photos": 1}


def test_name_another_workspace(store: str, project: Path) -> None:
    refused("name another --corpus or --workspace", "report")
    place = project / "data/runs/one/08_reporting/sample_scenes/evaluation.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"photos": 1, "split": "val", "models": {}}')
    assert call("report", "--workspace", "data/runs/one").exit_code == 0


def test_set_the_model_to_serve(
    store: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captionloop.commands.serve import check_start
    from captionloop.serving.service_settings import Settings

    port = free_port()
    refused("or set CAPTIONLOOP_MODEL", "serve", "--port", port)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/file").touch()
    monkeypatch.setenv("CAPTIONLOOP_MODEL", str(tmp_path / "empty"))
    refused("point CAPTIONLOOP_MODEL at one", "serve", "--port", port)
    monkeypatch.setenv("CAPTIONLOOP_MODEL", str(bundle))
    check_start(Settings.from_environment(), "127.0.0.1", port)


def test_give_another_port() -> None:
    import socket

    from captionloop.commands.serve import check_address

    with socket.create_server(("127.0.0.1", 0)) as listening:
        with pytest.raises(ConfigurationError, match="or give --port another"):
            check_address("127.0.0.1", listening.getsockname()[1], "--port")
        check_address("127.0.0.1", free_port(), "--port")


def test_one_of_two_takes_another_address(tmp_path: Path) -> None:
    from captionloop.commands.serve import hold_address

    hold_address(tmp_path / "state", "127.0.0.1", 3000)
    with pytest.raises(ConfigurationError, match="stop it, or give --port another"):
        hold_address(tmp_path / "state", "127.0.0.1", 3000)
    hold_address(tmp_path / "state", "127.0.0.1", 3001)


def test_name_a_built_page(tmp_path: Path) -> None:
    from captionloop.serving.service_settings import Settings

    settings = Settings.from_environment({"CAPTIONLOOP_PAGE": str(tmp_path)})
    with pytest.raises(ConfigurationError, match="name the folder of a built page"):
        _ = settings.page_folder
    (tmp_path / "index.html").touch()
    assert settings.page_folder == tmp_path


def test_write_a_database_url(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", "ratings.db")
    refused("write sqlite:///path/to/ratings.db", "keys", "list")
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", f"sqlite:///{project}/ratings.db?timeout=1")
    refused("leave out what follows ?", "keys", "list")
    (project / "text.db").write_text("this is no database, but a text of some length" * 20)
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", f"sqlite:///{project}/text.db")
    refused("check CAPTIONLOOP_DATABASE", "keys", "list")
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", f"sqlite:///{project}/ratings.db")
    assert call("keys", "list").exit_code == 0


def test_list_the_keys(project: Path) -> None:
    refused("see captionloop keys list", "keys", "revoke", "abc")
    key = call("keys", "create", "me").stdout.split("_")[1]
    assert key in call("keys", "list").stdout
    assert call("keys", "revoke", key).exit_code == 0


def test_name_the_ratings_database(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from captionloop.datasets.corpus_datasets import RatingsDataset
    from captionloop.ratings.database import upgrade

    with pytest.raises(CaptionloopError, match="or set CAPTIONLOOP_DATABASE"):
        RatingsDataset().load().engine()
    url = f"sqlite:///{project / 'other.db'}"
    upgrade(url)
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", url)
    RatingsDataset().load().engine().dispose()


def test_name_a_folder_for_photos(tmp_path: Path) -> None:
    from captionloop.photos import PhotoArchive

    (tmp_path / "file").touch()
    name = hashlib.sha256(b"photo").hexdigest()
    with pytest.raises(CaptionloopError, match="check CAPTIONLOOP_PHOTOS"):
        PhotoArchive(str(tmp_path / "file/photos")).write(name, b"photo")
    PhotoArchive(str(tmp_path / "photos")).write(name, b"photo")
    assert PhotoArchive(str(tmp_path / "photos")).read(name) == b"photo"
