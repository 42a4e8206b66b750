import sys

import pytest
from captionloop.pipelines.data_validation.nodes import inspect_corpus
from captionloop.pipelines.encoder_adaptation.nodes import draw_curves, finetune_encoder
from captionloop.pipelines.evaluation.nodes import choose_photos, score_captions, write_table
from captionloop.pipelines.training.nodes import train_cross_entropy

from captionloop.datasets import CheckpointFolderDataset, EncoderDataset, PhotoFolderDataset
from captionloop.provenance.code_versions import CodeVersions
from captionloop.provenance.parsed_code import ParsedModules

SOURCE = {
    "start.py": """
from typing import TYPE_CHECKING
import numpy as np
from tried_code import shapes
if TYPE_CHECKING:
    from tried_code.things import Thing
else:
    Thing = object
WIDTH = 2
def node(thing: "Thing") -> int:
    from tried_code.late import later
    return thing.size() + shapes.area(WIDTH) + later()
def other() -> int:
    return np.sum([1])
""",
    "shapes.py": "SIDE = 3\ndef area(width): return width * SIDE\ndef volume(width): return width ** 3\n",
    "things.py": """
class Base:
    def size(self): return self._weight()
    def _weight(self): return 1
class Thing(Base):
    def _weight(self): return 2
    def colour(self): return "red"
""",
    "late.py": "def later(): return 5\n",
}


@pytest.fixture
def tried(tmp_path, monkeypatch):
    folder = tmp_path / "tried_code"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, text in SOURCE.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import tried_code.start as start

    yield folder, lambda name="node": CodeVersions({"tried_code"}).of(getattr(start, name))
    for name in [name for name in sys.modules if name.startswith("tried_code")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("start.py", "WIDTH = 2", "WIDTH = 3", True),
        ("start.py", "np.sum([1])", "np.sum([2])", False),
        ("shapes.py", "SIDE = 3", "SIDE = 4", True),
        ("shapes.py", "width ** 3", "width ** 4", False),
        ("things.py", "return 1", "return 10", True),  # through the hint in quotation marks, and a base
        ("things.py", "return 2", "return 20", True),
        ("things.py", '"red"', '"blue"', False),
        ("late.py", "return 5", "return 6", True),
        ("late.py", "return 5", '"""Says five."""\n    return (5)  # five', False),
    ],
)
def test_what_is_mentioned_counts(tried, file, old, new, counts):
    folder, version = tried
    before, path = version(), folder / file
    assert old in path.read_text()
    text = path.read_text().replace("def later(): return 5", "def later():\n    return 5")
    path.write_text(text.replace(old, new))
    assert (version() != before) == counts


def test_what_was_read_is_kept_until_a_file_changes(tried, tmp_path):
    folder, version = tried
    start, kept = sys.modules["tried_code.start"], tmp_path / "kept/parsed_code.json"

    def kept_version():
        code = CodeVersions({"tried_code"}, ParsedModules(kept))
        found = code.of(start.node)
        code.save()
        return found

    before = version()
    assert kept_version() == kept_version() == before
    written = kept.read_bytes()
    assert kept_version() == before and kept.read_bytes() == written
    text = (folder / "start.py").read_text()
    (folder / "start.py").write_text(text.replace("WIDTH = 2", "WIDTH = 3"))
    assert kept_version() == version() != before
    (folder / "start.py").write_text(text)
    assert kept_version() == before
    for damaged in (b"", b"{", b"[]", written[:-1]):
        kept.write_bytes(damaged)
        assert kept_version() == before


def test_packages_are_those_that_the_code_itself_imports(tried):
    _, version = tried
    assert not version().packages
    assert set(version("other").packages) == {"numpy"}


def test_nothing_is_imported_to_find_out(tried):
    _, version = tried
    version()
    assert "tried_code.late" not in sys.modules


def test_what_trains_encoders_does_not_depend_on_how_captions_are_made_or_scored() -> None:
    """Nor does what reads and writes its data: a family of captioners once brought consensus and CIDEr."""
    kinds = (EncoderDataset, PhotoFolderDataset, CheckpointFolderDataset)
    modules = CodeVersions().of(finetune_encoder, *kinds).modules
    assert "captionloop.training.train_encoder" in modules
    other = ("scoring.", "evaluation.", "feedback.", "registry.", "captioner.consensus", "captioner.decod")
    assert not [name for name in modules if name.removeprefix("captionloop.").startswith(other)]


def test_every_node_of_the_project_depends_on_what_it_uses_and_not_on_all():
    code = CodeVersions()
    expected = {
        function: {module.removeprefix("captionloop.") for module in code.of(function).modules}
        for function in (
            inspect_corpus,
            draw_curves,
            choose_photos,
            score_captions,
            write_table,
            train_cross_entropy,
        )
    }
    assert expected[draw_curves] == {"pipelines.encoder_adaptation.nodes", "evaluation.figures"}
    assert {"scoring.cider", "scoring.java_metrics", "evaluation.evaluation_report"} <= expected[
        score_captions
    ]
    below = {name for name in expected[score_captions] if name.startswith(("vision.", "corpus."))}
    assert below <= {"corpus.tables"}  # which splits there are
    assert {
        "training.train_captioner",
        "training.caption_module",
        "captioner.decoders.show_attend_tell",
    } <= expected[train_cross_entropy]
    assert not {
        name
        for name in expected[train_cross_entropy]
        if name.startswith(("evaluation.", "registry.", "feedback."))
    }
    assert "training.train_encoder" not in expected[train_cross_entropy]
    assert {"corpus.photo_checks", "photos"} <= expected[inspect_corpus]
    assert len(expected[choose_photos]) < 8
    assert (
        "torch" in code.of(train_cross_entropy).packages and "torch" not in code.of(score_captions).packages
    )
    assert "pycocoevalcap" in code.of(score_captions).packages
