"""What the documentation names is there: files, make targets, commands with their options, pipelines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from captionloop.cli import main
from captionloop.pipeline_registry import register_pipelines

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        ROOT / "data/README.md",
    }
)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
CODE = re.compile(r"^( *)(```+)[^\n]*\n(.*?)^\1\2|(?<!`)`([^`\n]+)`(?!`)", re.DOTALL | re.MULTILINE)


def pages(test):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))(test)


def code(page: Path) -> Iterator[str]:
    """Every line of code: of the blocks, continued lines joined, and what is between backticks."""
    for match in CODE.finditer(page.read_text()):
        block = match[3] if match[3] is not None else match[4]
        yield from block.replace("\\\n", " ").splitlines()


def prose(page: Path) -> str:
    return CODE.sub("", page.read_text())


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(prose(page))]
    local = [target for target in targets if target and "://" not in target and "mailto:" not in target]
    generated = {"reference/command-line.md", "reference/configuration.md", "reference/pipelines.md"}
    missing = [target for target in local if not (page.parent / target).exists()]
    assert [target for target in missing if target not in generated] == []


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for line in code(page) for name in re.findall(r"(?:^|[\s(;&|])make ([a-z0-9-]+)", line)}
    assert named <= targets


@pages
def test_commands_exist_with_their_options(page: Path) -> None:
    wrong = [
        problem
        for line in code(page)
        for call in re.split(r"&&|\|\||[;|]", line)
        if (problem := what_is_wrong_with(call)) is not None
    ]
    assert wrong == []


def what_is_wrong_with(call: str) -> str | None:
    """None for a call of `captionloop` that could be made, and for anything else."""
    found = re.match(r"\s*(?:\$ )?(?:\w+=\S+\s+)*(?:[^\s=]*/)?captionloop( .*|$)", call)
    if found is None:
        return None
    try:
        words = shlex.split(found[1], comments=True)
    except ValueError:
        return None
    command: click.Command = main
    context = click.Context(command, info_name="captionloop")
    for word in words:
        if isinstance(command, click.Group) and re.fullmatch("[a-z]+", word):
            child = command.get_command(context, word)
            if child is None:
                return f"{call.strip()}: no command {word!r}"
            command, context = child, click.Context(child, info_name=word, parent=context)
        elif word.startswith("--"):
            known = {
                name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)
            }
            if word.partition("=")[0] not in known:
                return f"{call.strip()}: no option {word}"
    return None


@pages
def test_pipelines_exist(page: Path) -> None:
    known = set(register_pipelines())
    named = {
        name
        for line in code(page)
        if "kedro" in line
        for names in re.findall(r"--pipelines[ =]([\w,]+)", line)
        for name in names.split(",")
    }
    assert named - {"NAME"} <= known


def test_the_checks_can_fail() -> None:
    assert what_is_wrong_with("captionloop models shwo") == "captionloop models shwo: no command 'shwo'"
    assert what_is_wrong_with(".venv/bin/captionloop serve --prot 1") is not None
    assert what_is_wrong_with("A=1 captionloop serve --port 1") is None
