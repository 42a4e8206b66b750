"""The web page before a real service, in a real browser."""

import io
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Route, expect
from service_process import photo
from web_page import PHONE, Visit

pytestmark = [pytest.mark.e2e, pytest.mark.service]
pytest_plugins = ["web_page_fixtures"]

HERE = "document.documentElement"


def lit_fraction(visit: Visit) -> float:
    """Share of the overlay's pixels that are clearly veiled; 0 where nothing is drawn."""
    return float(
        visit.overlay.evaluate("""canvas => {
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let veiled = 0;
            for (let i = 3; i < data.length; i += 4) veiled += data[i] > 2;
            return veiled / (data.length / 4);
        }""")
    )


@pytest.mark.named_use
def test_pointing_at_a_word_lays_its_attention_over_the_photo(visit: Visit) -> None:
    visit.caption()
    expect(visit.overlay).to_have_attribute("data-lit", "false")
    visit.words.nth(1).hover()
    expect(visit.overlay).to_have_attribute("data-lit", "true")
    assert lit_fraction(visit) > 0.5
    shown, overlay = visit.page.get_by_alt_text("Your photo").bounding_box(), visit.overlay.bounding_box()
    assert shown is not None and overlay is not None
    assert all(abs(shown[side] - overlay[side]) < 1 for side in ("x", "y", "width", "height"))  # type: ignore[literal-required]
    visit.page.mouse.move(0, 0)
    expect(visit.overlay).to_have_attribute("data-lit", "false")


def test_every_word_is_reached_by_keyboard_and_says_how_sure_and_where(visit: Visit) -> None:
    visit.caption()
    visit.words.first.focus()
    for place in range(visit.words.count()):
        expect(visit.words.nth(place)).to_be_focused()
        expect(visit.overlay).to_have_attribute("data-lit", "true")
        expect(visit.words.nth(place)).to_have_accessible_name(re.compile(r", .*%; looked at the "))
        visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("Escape")
    expect(visit.overlay).to_have_attribute("data-lit", "false")
    tab_stops = visit.words.evaluate_all("words => words.filter(word => word.tabIndex === 0).length")
    assert tab_stops == 1


def test_a_tapped_word_stays_until_it_is_tapped_again(visits: Callable[..., Visit]) -> None:
    visit = visits(**PHONE)
    visit.caption()
    visit.words.nth(1).tap()
    expect(visit.overlay).to_have_attribute("data-lit", "true")
    visit.words.nth(1).tap()
    expect(visit.overlay).to_have_attribute("data-lit", "false")


def test_playing_walks_through_the_words(visit: Visit) -> None:
    visit.caption()
    visit.page.get_by_role("button", name="Play the words").click()
    for place in (0, 1):
        expect(visit.words.nth(place)).to_have_class(re.compile("active"))
    visit.page.get_by_role("button", name="Stop").click()
    expect(visit.overlay).to_have_attribute("data-lit", "false")


def test_a_new_caption_plays_by_itself_unless_motion_is_unwelcome(visits: Callable[..., Visit]) -> None:
    moving = visits(reduced_motion="no-preference")
    moving.caption()
    expect(moving.page.get_by_role("button", name="Stop")).to_be_visible()
    still = visits(reduced_motion="reduce")
    still.caption()
    still.page.wait_for_timeout(1500)
    expect(still.page.get_by_role("button", name="Play the words")).to_be_visible()


@pytest.mark.named_use
def test_a_rating_and_a_better_caption_arrive_and_change_the_statistics(visit: Visit) -> None:
    # Statistics are kept for a minute: each question here is one that nobody else asks.
    statistics = f"{visit.url}/v1/statistics?days="
    before = visit.page.request.get(f"{statistics}81").json()["totals"]
    visit.page.route("**/v1/statistics*", lambda route: route.continue_(url=f"{statistics}83"))
    visit.caption()
    visit.stars(2)
    expect(visit.page.get_by_role("status").filter(has_text="thank you")).to_be_attached()
    visit.page.get_by_label("A better caption").fill("three boats & a <b>duck</b>")
    with visit.page.expect_response(lambda answer: answer.request.method == "PUT") as saved:
        visit.page.get_by_role("button", name="Save").click()
    assert saved.value.json()["correction"] == "three boats & a <b>duck</b>"
    visit.stars(5)

    after = visit.page.request.get(f"{statistics}82").json()["totals"]
    assert after["ratings"] == before["ratings"] + 1  # changed twice, counted once
    assert after["corrections"] == before["corrections"] + 1  # changing the stars kept the words
    assert after["stars"]["5"] == before["stars"]["5"] + 1
    visit.page.get_by_role("navigation").get_by_role("link", name="The model").click()
    shown = visit.page.locator(".numbers li").filter(has_text=re.compile(r"\d ratings?$"))
    expect(shown).to_contain_text(str(after["ratings"]))


def caption_url(visit: Visit) -> str:
    """Has a photo captioned; where its caption can be read back, with the visitor's cookie."""
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as made:
        visit.caption()
    return f"{visit.url}/v1/captions/{made.value.json()['caption_id']}"


def stored(visit: Visit, caption: str, **expected: object) -> None:
    """Waits until the service has this rating."""
    deadline = time.monotonic() + 15
    while True:
        rating = visit.context.request.get(caption).json()["rating"] or {}
        if all(rating.get(name) == value for name, value in expected.items()):
            return
        assert time.monotonic() < deadline, rating
        time.sleep(0.1)


def test_leaving_the_page_at_once_saves_stars_and_words(visit: Visit) -> None:
    caption = caption_url(visit)
    visit.page.get_by_role("radio", name="2 of 5").check(force=True)
    visit.page.get_by_label("A better caption").fill("a boat on a lake")
    visit.page.goto("about:blank")
    stored(visit, caption, stars=2, correction="a boat on a lake")
    visit.page.goto(visit.url)  # what the browser kept is confirmed, and let go
    kept = "localStorage.getItem('captionloop.drafts.v1')"
    until = time.monotonic() + 30
    # Asked again and again from here: the page's policy forbids what `wait_for_function` does in it.
    while visit.page.evaluate(kept) is not None and time.monotonic() < until:
        visit.page.wait_for_timeout(100)
    assert visit.page.evaluate(kept) is None


@pytest.mark.parametrize("way", ["The model", "another photo"])
def test_leaving_the_caption_saves_words_typed_after_the_stars(visit: Visit, way: str) -> None:
    caption = caption_url(visit)
    visit.stars(3)
    expect(visit.page.locator(".thanks")).to_be_visible()
    visit.page.get_by_label("A better caption").fill("a kite in the sky")
    expect(visit.page.locator(".thanks")).to_have_count(0)
    expect(visit.page.get_by_text("Your words are not saved yet")).to_be_visible()
    if way == "The model":
        visit.page.get_by_role("navigation").get_by_role("link", name=way).click()
    else:
        visit.choose(visit.photo("other.jpg", seed=1))
    stored(visit, caption, stars=3, correction="a kite in the sky")


def test_other_stars_send_no_half_typed_words(visit: Visit) -> None:
    caption = caption_url(visit)
    visit.stars(3)
    visit.page.get_by_label("A better caption").fill("half a sen")
    with visit.page.expect_request(lambda request: request.method == "PUT") as sent:
        visit.page.get_by_role("radio", name="4 of 5").check(force=True)
    assert sent.value.post_data_json == {"stars": 4, "correction": None, "comment": None}
    stored(visit, caption, stars=4, correction=None)
    expect(visit.page.get_by_label("A better caption")).to_have_value("half a sen")
    expect(visit.page.locator(".thanks")).to_have_count(0)
    visit.page.get_by_label("A better caption").fill("half a sentence made whole")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".thanks")).to_be_visible()
    stored(visit, caption, stars=4, correction="half a sentence made whole")


def test_the_later_of_two_saves_is_the_one_that_stays(visit: Visit) -> None:
    caption = caption_url(visit)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    visit.page.route("**/rating", hold, times=1)
    visit.page.get_by_role("radio", name="1 of 5").check(force=True)
    visit.page.wait_for_timeout(800)
    visit.page.get_by_role("radio", name="5 of 5").check(force=True)
    visit.page.wait_for_timeout(800)
    expect(visit.page.get_by_text("Saving")).to_be_visible()
    assert len(held) == 1
    held[0].continue_()
    expect(visit.page.locator(".thanks")).to_be_visible()
    stored(visit, caption, stars=5)


def test_a_rating_that_cannot_be_sent_keeps_its_words_and_is_tried_again(visit: Visit) -> None:
    caption = caption_url(visit)
    visit.page.route("**/rating", lambda route: route.abort())
    visit.page.get_by_role("radio", name="2 of 5").check(force=True)
    visit.page.get_by_label("A better caption").fill("a red kite")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("not saved")
    visit.page.reload()  # nothing is lost even now
    visit.page.get_by_role("heading", name="Your captions").wait_for()
    visit.page.locator(".recent").first.click()
    expect(visit.page.get_by_label("A better caption")).to_have_value("a red kite")
    expect(visit.page.get_by_role("alert")).to_contain_text("not saved")
    visit.page.unroute("**/rating")
    visit.page.get_by_role("button", name="Try again").click()
    expect(visit.page.locator(".thanks")).to_be_visible()
    stored(visit, caption, stars=2, correction="a red kite")


def test_an_alternative_becomes_the_better_caption(visit: Visit) -> None:
    visit.caption()
    better = visit.page.get_by_role("button", name="This is better").first
    text = (better.inner_text()).split(": ", 1)[1]
    better.click()
    field = visit.page.get_by_label("A better caption")
    expect(field).to_be_focused()
    expect(field).to_have_value(text)
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("stars")


@pytest.mark.named_use
def test_an_erased_photo_is_gone_here_and_there(visit: Visit) -> None:
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as made:
        visit.caption()
    caption = f"{visit.url}/v1/captions/{made.value.json()['caption_id']}"
    assert visit.page.request.get(caption).status == 200
    visit.page.get_by_role("button", name="Erase this photo").click()
    visit.page.get_by_role("button", name="Erase it").click()
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Show it a photo")
    expect(visit.page.get_by_role("heading", level=1)).to_be_focused()
    assert visit.page.request.get(caption).status == 404
    visit.page.reload()
    expect(visit.page.get_by_role("heading", name="Your captions")).to_have_count(0)


def test_recent_captions_come_back_with_words_attention_and_stars(visit: Visit) -> None:
    caption = visit.caption()
    visit.stars(4)
    visit.page.reload()
    visit.page.get_by_role("button", name=re.compile(caption, re.IGNORECASE)).click()
    assert " ".join(visit.words.locator(".text").all_inner_texts()).lower() == caption
    visit.words.nth(1).hover()
    expect(visit.overlay).to_have_attribute("data-lit", "true")
    expect(visit.page.get_by_role("radio", name="4 of 5")).to_be_checked()
    visit.page.get_by_role("link", name="captionloop").click()
    visit.page.get_by_role("button", name="Erase all").click()
    visit.page.get_by_role("button", name="Erase it").click()
    expect(visit.page.get_by_role("heading", name="Your captions")).to_have_count(0)
    assert visit.page.evaluate("localStorage.length") == 0
    assert visit.page.request.get(f"{visit.url}/v1/captions").json()["captions"] == []
    visit.page.reload()
    visit.page.get_by_role("heading", level=1).wait_for()
    expect(visit.page.get_by_role("heading", name="Your captions")).to_have_count(0)


def test_a_photo_that_is_cancelled_after_it_was_sent_is_kept_nowhere(visit: Visit) -> None:
    slow = {"offline": False, "latency": 4000, "downloadThroughput": -1, "uploadThroughput": -1}
    network = visit.context.new_cdp_session(visit.page)
    network.send("Network.emulateNetworkConditions", slow)
    with visit.page.expect_response(lambda answer: answer.request.method == "DELETE") as erased:
        visit.choose(visit.photo())
        visit.page.get_by_role("heading", name="Looking at it").wait_for()
        visit.page.get_by_role("button", name="Cancel").click()
    assert erased.value.status == 204
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Show it a photo")
    assert visit.page.request.get(f"{visit.url}/v1/captions").json()["captions"] == []


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_may_be_dropped_or_pasted(visit: Visit, way: str) -> None:
    visit.page.evaluate(
        """async ([way, type]) => {
            const blob = await (await fetch('./examples/boats.webp')).blob();
            const transfer = new DataTransfer();
            transfer.items.add(new File([blob], 'boats.webp', { type: 'image/webp' }));
            dispatchEvent(way === 'drop'
                ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true }));
        }""",
        [way, "image/webp"],
    )
    expect(visit.words.first).to_be_visible()


def test_an_example_is_captioned_on_the_first_visit(visit: Visit) -> None:
    visit.page.get_by_role("button", name=re.compile("Try the example")).first.click()
    expect(visit.words.first).to_be_visible()


def test_a_file_that_is_no_picture_gets_a_sentence_and_the_next_photo_works(visit: Visit) -> None:
    visit.choose(visit.photo("notes.png", content=b"this is no picture"))
    expect(visit.page.get_by_role("alert")).to_contain_text("not a picture")
    visit.caption()


def test_a_picture_beyond_the_limits_is_made_smaller_before_it_is_sent(visit: Visit) -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 6000)).save(buffer, "PNG")  # 54 megapixels in a few kB
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as made:
        visit.choose(visit.photo("wide.png", content=buffer.getvalue()))
    assert made.value.json()["image"] == {"width": 2048, "height": 1365}


def test_a_photo_from_a_phone_is_sent_small_and_upright(visit: Visit) -> None:
    lying = Image.new("RGB", (3000, 1000), "blue")
    lying.paste("red", (0, 0, 1500, 1000))  # the left half, which is the top once it is upright
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    lying.save(buffer, "JPEG", exif=exif)
    sent: list[bytes] = []

    def look(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        route.continue_()

    visit.page.route("**/v1/captions", look)
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as made:
        visit.choose(visit.photo("phone.jpg", content=buffer.getvalue()))
    assert made.value.json()["image"] == {"width": 683, "height": 2048}
    if sent[0]:  # not every version of the browser shows what is in a form
        drawn = Image.open(io.BytesIO(sent[0][sent[0].index(b"\xff\xd8\xff") :]))
        assert drawn.size == (683, 2048)
        assert 0x0112 not in drawn.getexif()
        top, bottom = (drawn.getpixel((340, y)) for y in (300, 1700))
        assert isinstance(top, tuple) and isinstance(bottom, tuple)
        assert top[0] > 200 > 50 > top[2]
        assert bottom[2] > 200 > 50 > bottom[0]


def test_a_photo_is_sent_in_full_size_where_the_settings_say_so(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Settings").click()
    visit.page.get_by_label("Make large photos smaller").uncheck()
    visit.page.get_by_role("button", name="Save").click()
    visit.page.reload()  # it is remembered
    large = photo(size=(3000, 1000))
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as made:
        visit.choose(visit.photo("large.jpg", content=large))
    assert made.value.json()["image"] == {"width": 3000, "height": 1000}


def test_a_limit_counts_down_and_then_lets_go_on(visit: Visit) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(
            status=429,
            headers={"Retry-After": "2", "Content-Type": "application/problem+json"},
            body='{"type": "urn:captionloop:problem:rate-limited", "title": "Too many requests"}',
        )

    visit.page.route("**/v1/captions", refuse, times=1)
    visit.choose(visit.photo())
    expect(visit.page.get_by_role("button", name="Try again in")).to_be_disabled()
    again = visit.page.get_by_role("button", name="Try again", exact=True)
    expect(again).to_be_enabled()
    again.click()
    expect(visit.words.first).to_be_visible()


def test_a_photo_outlives_being_offline(visit: Visit) -> None:
    visit.context.set_offline(True)
    expect(visit.page.get_by_text("You are offline. Earlier captions")).to_be_visible()
    visit.choose(visit.photo())
    expect(visit.page.get_by_role("alert")).to_contain_text("You are offline")
    visit.context.set_offline(False)
    visit.page.get_by_role("button", name="Try again").click()
    expect(visit.words.first).to_be_visible()


def test_a_slow_answer_can_be_cancelled(visit: Visit) -> None:
    visit.page.route("**/v1/captions", lambda route: None)  # never answered
    visit.choose(visit.photo())
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Sending the photo")
    visit.page.get_by_role("button", name="Cancel").click()
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Show it a photo")


def test_a_key_is_sent_as_bearer_and_forgotten_with_the_tab(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Settings").click()
    visit.page.get_by_label("API key").fill("clk_wrong")
    visit.page.get_by_role("button", name="Save").click()
    with visit.page.expect_request(lambda request: request.method == "POST") as sent:
        visit.choose(visit.photo())
    assert sent.value.headers["authorization"] == "Bearer clk_wrong"
    expect(visit.page.get_by_role("alert")).to_contain_text("valid API key")
    assert visit.page.evaluate("JSON.stringify(localStorage).includes('clk_wrong')") is False
    other = visit.context.new_page()
    other.goto(visit.url)
    assert other.evaluate("sessionStorage.length") == 0


def test_no_request_leaves_for_another_host(visit: Visit) -> None:
    visit.caption()
    visit.page.get_by_role("navigation").get_by_role("link", name="The model").click()
    expect(visit.page.get_by_role("heading", name="Model card")).to_be_visible()
    hosts = {urlsplit(url).netloc for url in visit.requests if not url.startswith(("blob:", "data:"))}
    assert hosts == {urlsplit(visit.url).netloc}


def test_nothing_sticks_out_on_a_phone(visits: Callable[..., Visit]) -> None:
    visit = visits(**PHONE)
    widths = [visit.page.evaluate(f"{HERE}.scrollWidth")]
    visit.caption()
    widths.append(visit.page.evaluate(f"{HERE}.scrollWidth"))
    visit.page.goto(f"{visit.url}/#/model")
    visit.page.get_by_role("heading", name="Model card").wait_for()
    widths.append(visit.page.evaluate(f"{HERE}.scrollWidth"))
    assert widths == [360, 360, 360]


def test_the_page_speaks_the_language_that_the_browser_asks_for(visits: Callable[..., Visit]) -> None:
    visit = visits(locale="de-DE")
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Zeig ihm ein Foto.")
    assert visit.page.evaluate(f"[{HERE}.lang, {HERE}.dir]") == ["de", "ltr"]
    visit.choose(visit.photo("broken.png", content=b"this is no picture"))
    expect(visit.page.get_by_role("alert")).to_contain_text("kein Bild")
    other = visits(locale="fr-FR")
    assert other.page.evaluate(f"{HERE}.lang") == "en"


@pytest.mark.parametrize(
    ("locale", "message"),
    [("en-GB", "unlike anything it learnt from"), ("de-DE", "gleicht nichts, woraus es gelernt hat")],
)
def test_of_a_photo_unlike_anything_learnt_from_no_confidence_is_claimed(
    visits: Callable[..., Visit], locale: str, message: str
) -> None:
    visit = visits(locale=locale)
    flat = io.BytesIO()
    Image.new("RGB", (320, 240), "black").save(flat, "PNG")  # the model of the tests has learnt from noise
    visit.choose(visit.photo("flat.png", content=flat.getvalue()))
    visit.words.first.wait_for()
    expect(visit.page.get_by_text(message)).to_have_count(2)  # shown, and told to screen readers
    caption = visit.page.locator(".said")
    assert "%" not in caption.inner_text()
    expect(caption.locator(".sure, .fairly, .unsure, .guess")).to_have_count(0)
    visit.page.reload()  # it is remembered with the caption
    visit.page.locator(".recent").first.click()
    expect(visit.page.get_by_text(message)).to_have_count(2)


def test_a_photo_like_those_learnt_from_is_told_with_a_confidence(visit: Visit) -> None:
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as made:
        visit.caption()
    assert made.value.json()["familiar"] is True
    expect(visit.page.locator(".confidence")).to_have_attribute("title", re.compile("people would accept"))
    expect(visit.page.get_by_text("unlike anything")).to_have_count(0)


def test_a_caption_is_copied(visits: Callable[..., Visit]) -> None:
    visit = visits(permissions=["clipboard-read", "clipboard-write"])
    caption = visit.caption()
    visit.page.get_by_role("button", name="Copy").click()
    expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
    expect(visit.page.get_by_role("status").filter(has_text="The caption is copied.")).to_be_attached()
    assert visit.page.evaluate("navigator.clipboard.readText()") == caption
    marked = visit.page.evaluate(
        "navigator.clipboard.read().then(([all]) => all.getType('text/html')).then(each => each.text())"
    )
    assert '<span lang="en"' in marked, "what takes text with markup learns the language"


def test_a_caption_is_shared_where_the_browser_can(visits: Callable[..., Visit]) -> None:
    visit = visits(**PHONE, locale="de-DE")
    visit.page.evaluate(
        "Object.defineProperty(navigator, 'share', {value: async data => { window.sent = data }})"
    )
    caption = visit.caption()
    visit.page.get_by_role("button", name="Teilen").click()
    expect(visit.page.get_by_role("status").filter(has_text="Die Beschreibung ist geteilt.")).to_be_attached()
    assert visit.page.evaluate("window.sent") == {"text": caption}
