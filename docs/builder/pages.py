"""The pages as the site takes them: what is written, what is generated, and the order of the menu."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from docs.builder import reference

DOCS: Final = Path(__file__).resolve().parents[1]
GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "reference/command-line.md": reference.command_line,
    "reference/configuration.md": reference.configuration,
    "reference/pipelines.md": reference.pipelines,
}

# The order of the menu. A page that is named here and not written yet is left out; one that is written and
# not named comes at the end of its folder's section. So nobody breaks the menu by adding a page.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Home": ("index.md",),
    "Tutorial": ("tutorial/first-loop.md", "tutorial/your-own-photos.md", "tutorial/*"),
    "How-to guides": (
        "how-to/another-encoder.md",
        "how-to/serve.md",
        "how-to/api-keys.md",
        "how-to/erase.md",
        "how-to/strangers.md",
        "how-to/promote-and-roll-back.md",
        "how-to/try-a-version.md",
        "how-to/sign-models.md",
        "how-to/retraining.md",
        "how-to/drift.md",
        "how-to/web-page.md",
        "how-to/cluster.md",
        "how-to/monitoring.md",
        "how-to/*",
    ),
    "Outgrowing the defaults": ("outgrowing/index.md", "outgrowing/*"),
    "Another model": ("another-task/*",),
    "Runbooks": ("runbooks/README.md", "runbooks/*"),
    "Reference": (
        "api.md",
        "reference/command-line.md",
        "reference/configuration.md",
        "reference/pipelines.md",
        "lineage.md",
        "data.md",
        "glossary.md",
        "reference/*",
    ),
    "Explanation": (
        "architecture.md",
        "what-is-made-anew.md",
        "feature-store.md",
        "evaluation.md",
        "languages.md",
        "gate.md",
        "learning.md",
        "results.md",
        "benchmarks.md",
        "*",
    ),
    "Records": ("records/*",),
    "Decisions": ("decisions/README.md", "decisions/*"),
}

_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")


def gather(folder: Path) -> None:
    """Copies the written pages and pictures to `folder`, and writes the generated pages beside them."""
    for source in sorted(DOCS.rglob("*")):
        place = source.relative_to(DOCS)
        if source.is_dir() or place.parts[0] == "builder" or "__pycache__" in place.parts:
            continue
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(_links_that_stay(source.read_text(), place))
        else:
            shutil.copyfile(source, target)
    for name, page in GENERATED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page())


def _links_that_stay(text: str, page: Path) -> str:
    """Links to files of the repository that are no pages become the files' paths."""

    def replaced(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        if not target or "://" in target or target.startswith("mailto:"):
            return link[0]
        path = Path(os.path.normpath(page.parent / target))
        if path.parts[0] != "..":
            return link[0]
        return f"{link['text']} (`{Path(*path.parts[1:])}`)"

    return _LINK.sub(replaced, text)


def menu(folder: Path) -> list[dict[str, Any]]:
    """The menu, for `nav` in mkdocs.yml: every page in it once."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    named = {page for pages in SECTIONS.values() for page in pages if not page.endswith("*")}
    sections: list[dict[str, Any]] = []
    for title, pages in SECTIONS.items():
        chosen = [page for page in pages if page in there]
        for rest in (page for page in pages if page.endswith("*")):
            parent = rest.rstrip("*").rstrip("/") or "."
            chosen += sorted(
                page for page in there - named if str(Path(page).parent) == parent and page not in chosen
            )
        if title == "Home":
            sections += [{title: page} for page in chosen]
        elif chosen:
            sections.append({title: list(chosen)})
    return sections
