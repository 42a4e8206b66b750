"""What is made anew when: one change after the other, and the nodes that each of them makes run again.

The page docs/what-is-made-anew.md shows the result. Where it differs, the test writes it anew and fails: look
at the difference, and commit it.
"""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from changes import AGAIN, CHANGES, what_ran

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

PAGE = "docs/what-is-made-anew.md"
BEGIN, END = "<!-- what ran: written by tests/e2e/test_results_follow_inputs.py -->", "<!-- end -->"


@pytest.fixture(scope="module")
def ran(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The nodes that each change made run, in a copy of the project."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "src").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy2(project_root / name, folder)
    shutil.copytree(project_root / "conf", folder / "conf")
    shutil.copytree(project_root / "src/captionloop", folder / "src/captionloop")
    shutil.copytree(project_root / "pipelines", folder / "src/captionloop/pipelines")
    evaluation = (folder / "conf/base/parameters_evaluation.yml").read_text()
    (folder / "conf/short").mkdir()
    (folder / "conf/short/parameters_evaluation.yml").write_text(evaluation.replace("each: 2", "each: 1"))
    return what_ran(folder)


def test_the_page_says_what_is_made_anew_when(ran: dict[str, list[str]], project_root: Path) -> None:
    path = project_root / PAGE
    page = path.read_text()
    rows = [f"| {change} | {grouped(ran[change])} |" for change in (*CHANGES, AGAIN)]
    table = "\n".join([BEGIN, "", "| what changed | what ran |", "|---|---|", *rows, "", END])
    now = re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, page, flags=re.DOTALL)
    if now != page:
        path.write_text(now)
    assert now == page, f"{PAGE} was out of date and has been written anew"


def test_what_is_far_from_a_change_is_left_alone(ran: dict[str, list[str]]) -> None:
    def functions(change: str) -> set[str]:
        return {name.rpartition(".")[2] for name in ran[next(each for each in CHANGES if change in each)]}

    trained = {"train_cross_entropy", "train_self_critical", "finetune_encoder", "build_ensemble"}
    for change in ("test photo replaced", "caption of a test photo", "evaluation.resamples", "scoring/cider"):
        assert not functions(change) & {"finetune_encoder", "find_concepts"}
    for change in ("test photo replaced", "caption of a test photo", "resamples", "gallery", "Matplotlib"):
        assert not functions(change) & trained
    for change in (
        "nothing",
        "a comment or a docstring",
        "folder of the data moved",
        "evaluation.batch_size",
    ):
        assert not functions(change)
    assert {"finetune_encoder", "train_cross_entropy"} <= functions("a training photo replaced")
    assert {"build_encoder", "finetune_encoder", "cache_features"} <= functions("another file of weights")
    lightning = functions("version of Lightning")
    assert "train_cross_entropy" in lightning and "finetune_encoder" not in lightning
    assert functions("an output deleted") == {"draw_gallery"}


def grouped(nodes: list[str]) -> str:
    """Nodes of several models as one: `predict_captions` (5)."""
    if not nodes:
        return "nothing"
    if len(nodes) > 40:
        return "nearly all: more than 40 of 49 nodes"
    short = [re.sub(r"^write_model_card_.*", "write_model_card", name.rpartition(".")[2]) for name in nodes]
    counts = Counter(short)
    alone = dict(zip(short, nodes, strict=True))
    return ", ".join(
        f"`{name}` ({count})" if count > 1 else f"`{alone[name]}`" for name, count in counts.items()
    )
