"""axe looks at every state of the page, in light and dark, on a phone and on a desktop, in every language."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from web_page import DESKTOP, FRONTEND, PHONE, Visit, keep_screenshot

pytestmark = [pytest.mark.e2e, pytest.mark.service]
pytest_plugins = ["web_page_fixtures"]

AXE = FRONTEND / "node_modules/axe-core/axe.min.js"
SIZES = {"desktop": DESKTOP, "phone": PHONE}
CATALOGUES = {"en": FRONTEND / "src/wording/english.ts", "de": FRONTEND / "src/wording/german.ts"}


def text_of(visit: Visit, name: str) -> str:
    """What the page says under this name, up to what is put in, in the language of the visit."""
    catalogue = CATALOGUES[visit.page.evaluate("document.documentElement.lang")].read_text(encoding="utf-8")
    found = re.search(rf"^  {name}: (?:\(.*?\)(?:: string)? =>\s*)?[\"`]([^\"`$]+)", catalogue, re.MULTILINE)
    assert found, name
    return found[1].strip()


def first_visit(visit: Visit) -> None:
    expect(visit.page.get_by_role("button", name=text_of(visit, "choose")).first).to_be_visible()


def result(visit: Visit) -> None:
    example = visit.page.get_by_role("button", name=text_of(visit, "example")).nth(1)
    example.click()
    visit.words.nth(1).focus()
    expect(visit.overlay).to_have_attribute("data-lit", "true")


def rated(visit: Visit) -> None:
    """After `result`."""
    visit.stars(4)
    expect(visit.page.locator(".thanks")).to_be_visible()


def erasing(visit: Visit) -> None:
    result(visit)
    visit.page.get_by_role("button", name=text_of(visit, "erase")).click()


def erasing_all(visit: Visit) -> None:
    """With captions on the list whose pictures this browser does not have."""
    result(visit)
    visit.page.get_by_role("link", name="captionloop").click()
    visit.page.evaluate("localStorage.clear()")
    visit.page.reload()
    visit.page.get_by_role("button", name=text_of(visit, "eraseAll")).click()


def settings(visit: Visit) -> None:
    visit.page.get_by_role("button", name=text_of(visit, "settings")).click()


def statistics(visit: Visit) -> None:
    """After `rated`: with stars to show."""
    visit.page.get_by_role("navigation").get_by_role("link", name=text_of(visit, "model")).click()
    expect(visit.page.get_by_role("heading", name=text_of(visit, "card"))).to_be_visible()
    visit.page.get_by_text(text_of(visit, "asTable")).click()


def error(visit: Visit) -> None:
    visit.choose(visit.photo("notes.png", content=b"this is no picture"))
    expect(visit.page.get_by_role("alert")).to_be_visible()


VISITS: list[list[Callable[[Visit], None]]] = [
    [first_visit, settings],
    [result, rated, statistics],
    [erasing],
    [erasing_all],
    [error],
]
"""The states that a visit goes through, one after the other."""


def come_to_rest(page: Page) -> None:
    """Colours may glide; a contrast halfway says nothing."""
    page.evaluate(
        """Promise.all(document.getAnimations()
            .filter(each => each.effect.getComputedTiming().endTime < Infinity).map(each => each.finished))"""
    )


def findings(page: Page) -> list[str]:
    """What axe finds that is serious or critical, one line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    report = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{found['id']}: {node['html']} {node['failureSummary']}"
        for found in report["violations"]
        if found["impact"] in {"serious", "critical"}
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("colours", "language"), [("light", "en"), ("dark", "en"), ("light", "de"), ("dark", "de")]
)
def test_axe_finds_nothing_serious_in_any_state(
    visits: Callable[..., Visit], screenshots: Path | None, size: str, colours: str, language: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there (npm --prefix frontend ci)")
    found: dict[str, list[str]] = {}
    for states in VISITS:
        visit = visits(**SIZES[size], color_scheme=colours, locale=f"{language}-{language.upper()}")
        for reach in states:
            reach(visit)
            come_to_rest(visit.page)
            found[reach.__name__] = findings(visit.page)
            name = f"{reach.__name__}-{size}-{colours}-{language}.png"
            keep_screenshot(visit.page, screenshots, name)
    assert not any(found.values()), found
