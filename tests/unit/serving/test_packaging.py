"""What serving imports is packed: our modules into the Bento, and the packages into its requirements."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from packaging.utils import canonicalize_name

import captionloop
from captionloop.captioner.captioner import Calibration, Captioner
from captionloop.captioner.consensus import NeighbourIndex
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.ensembling import build_ensemble
from captionloop.captioner.model_config import (
    ConsensusOptions,
    DecodingOptions,
    ShowAndTellConfig,
    ShowAttendTellConfig,
    TransformerConfig,
)
from captionloop.registry.signing import Signing, make_key_pair, signature_of
from captionloop.serving.bento import FOR_GPUS, imported_modules, imports_of, pinned, stage_sources
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec

INSTALLED = packages_distributions()
PACKAGE = Path(captionloop.__file__).parent

# Run with nothing but the staged folder and the packages that the Bento asks for.
ALONE = """
import sys
from importlib import import_module
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path

ABSENT, STAGE = set({absent!r}), Path({stage!r})


class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else PathFinder.find_spec(name, path, target)


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Present]
sys.path[:] = [str(STAGE), *(entry for entry in sys.path if entry not in {unwanted!r})]
import captionloop

assert Path(captionloop.__file__).is_relative_to(STAGE), captionloop.__file__
for module in sorted(STAGE.joinpath("captionloop").rglob("*.py")):
    name = ".".join(module.relative_to(STAGE).with_suffix("").parts).removesuffix(".__init__")
    if "migrations" not in name:  # these want Alembic's context, and run below
        import_module(name)
from captionloop.captioner.captioner import Captioner
from captionloop.ratings.database import upgrade

upgrade("sqlite:///{stage}/ratings.db")
photo = Path({photo!r}).read_bytes()
for bundle in {bundles!r}:
    captioner = Captioner.load(bundle, device="cpu")
    print(captioner.name, "|", captioner.caption([photo])[0].best.text)
    captioner.save(STAGE / "again")
"""


@pytest.fixture(scope="module")
def captioners() -> list[Captioner]:
    """One of every kind: each decoder, with a consensus, calibrated, and several as one."""
    torch.manual_seed(0)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64), seed=0)
    tokenizer = CaptionTokenizer.train(["a red ball and a blue box"])
    words = tuple(tokenizer.encode("a red ball"))
    random = np.random.default_rng(0)
    neighbours = NeighbourIndex(
        centre=np.zeros(encoder.channels, np.float32),
        projection=random.normal(size=(encoder.channels, 4)).astype(np.float32),
        directions=random.normal(size=(3, 4)).astype(np.float16),
        captions=((words,),) * 3,
    )
    consensus = DecodingOptions(beam_width=3, max_length=5, consensus=ConsensusOptions(neighbours=2))
    kinds = [
        ShowAndTellConfig(embedding=8, hidden=8),
        ShowAttendTellConfig(embedding=8, hidden=8, attention_size=8),
        TransformerConfig(width=8, heads=2, layers=1),
    ]
    made = [
        Captioner(
            name=config.kind,
            encoder=encoder,
            decoder=build_decoder(
                config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels
            ),
            tokenizer=tokenizer,
            decoding=consensus,
            neighbours=neighbours,
            calibration=Calibration(probability=(0.0, 1.0), confidence=(0.1, 0.9)),
            device="cpu",
        )
        for config in kinds
    ]
    return [*made, build_ensemble(made[:2], "ensemble", consensus)]


@pytest.fixture(scope="module")
def provided(project_root: Path) -> set[str]:
    """The names that can be imported where only the Bento's requirements are installed."""
    asked = yaml.safe_load((project_root / "bentofile.yaml").read_text())["python"]["packages"]
    packaged = {line.partition("==")[0] for line in pinned(asked)}
    return {
        name
        for name, distributions in INSTALLED.items()
        if any(canonicalize_name(each) in packaged or FOR_GPUS.match(each) for each in distributions)
    }


OF_EXTRAS = {
    "captioner/pretrained": {"huggingface_hub", "peft", "transformers"},
    "vision": {"timm"},
}
"""What only models that need it bring into a Bento: `package_bento` adds it to the recipe's packages."""


def test_every_package_that_serving_imports_is_in_the_bentos_requirements(
    project_root: Path, provided: set[str]
) -> None:
    asked = yaml.safe_load((project_root / "bentofile.yaml").read_text())["python"]["packages"]
    missing = {
        (str(module.relative_to(PACKAGE)), name)
        for module in imported_modules(PACKAGE)
        for name in {each.partition(".")[0] for each in imports_of(module)}
        if name not in sys.stdlib_module_names and name != "captionloop"
        if not {canonicalize_name(each) for each in INSTALLED.get(name, [name])} & _named(asked)
        if name not in OF_EXTRAS.get(str(module.parent.relative_to(PACKAGE)), ())
    }
    assert missing == set()
    assert "kedro" not in provided, "the check can fail"


def _named(asked: list[str]) -> set[str]:
    """What `bentofile.yaml` names itself; that another of them brings a package along may change."""
    return {*asked, "mlflow"} if "mlflow-skinny" in asked else {*asked}


def test_every_module_of_ours_that_serving_imports_is_packed_and_no_training_is() -> None:
    packaged = {str(module.relative_to(PACKAGE)) for module in imported_modules(PACKAGE)}
    assert {"serving/service.py", "captioner/consensus.py", "registry/model_registry.py"} <= packaged
    assert {each for each in packaged if each.startswith("scoring")} == {
        "scoring/__init__.py", "scoring/cider.py", "scoring/ngrams.py",
    }  # fmt: skip
    for training in (
        "training/train_captioner.py",
        "training/caption_data.py",
        "training/train_encoder.py",
        "corpus",
        "evaluation",
    ):
        assert not [each for each in packaged if each.startswith(training)]
    relative = re.compile(r"^\s*from \.", re.MULTILINE)
    assert not [each for each in packaged if relative.search((PACKAGE / each).read_text())], "not followed"


def test_a_bento_carries_the_signature_of_its_model(
    captioners: list[Captioner], project_root: Path, tmp_path: Path
) -> None:
    bundle, stage = tmp_path / "bundle", tmp_path / "stage"
    stage.mkdir()
    captioners[0].save(bundle)
    private, public = make_key_pair(tmp_path / "keys")
    Signing(private).sign(bundle, signature_of(bundle))
    stage_sources(stage, bundle, "7", project_root)
    assert Signing(trust_store=public).check(stage / "model", signature_of(stage / "model"), "it") is not None
    included = yaml.safe_load((project_root / "bentofile.yaml").read_text())["include"]
    assert signature_of(Path("model")).name in included


@pytest.mark.e2e
@pytest.mark.named_use
def test_with_the_bentos_requirements_alone_every_kind_of_bundle_captions(
    captioners: list[Captioner], provided: set[str], project_root: Path, tmp_path: Path
) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8)).save(tmp_path / "p.jpg")
    bundles = [str(tmp_path / captioner.name) for captioner in captioners]
    for captioner, bundle in zip(captioners, bundles, strict=True):
        captioner.save(bundle)
    stage = tmp_path / "stage"
    stage.mkdir()
    stage_sources(stage, Path(bundles[0]), "7", project_root)
    script = ALONE.format(
        absent=sorted(INSTALLED.keys() - provided - {"captionloop"}),
        stage=str(stage),
        unwanted=[str(project_root / "src"), str(project_root)],
        photo=str(tmp_path / "p.jpg"),
        bundles=bundles,
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=stage, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    photo = (tmp_path / "p.jpg").read_bytes()
    assert done.stdout.splitlines()[-len(captioners) :] == [
        f"{each.name} | {each.caption([photo])[0].best.text}" for each in captioners
    ]
