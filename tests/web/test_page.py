"""The page in a real browser: what is drawn, what sliders and keys do to it, and that it lasts."""

import contextlib
import gc
import re
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest

import framecast
from framecast.media.video import read_video
from framecast.web.games import GamePlayer, open_game
from framecast.web.session import Session
from tests.web.playing import limits, make_player, serving

pytestmark = pytest.mark.system

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs chromium: make setup-system", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api")

LAPTOP = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}  # does not begin by itself
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--enable-precise-memory-info"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(make_player(tmp_path_factory.mktemp("data"))) as found:
        yield found


@pytest.fixture(scope="module")
def laptop(browser):
    with browser.new_context(**LAPTOP) as context:
        yield context.new_page()


class Tab:
    """An open page, and what went wrong in it. Waits by asking again: its policy forbids that strings become code."""

    def __init__(self, page, url):
        self.page, self.faults = page, []
        page.set_default_timeout(300_000)
        page.on("console", self.note)
        page.on("pageerror", self.note)
        page.goto(url)
        self.until("document.body.dataset.drawn >= 1")

    def note(self, fault):
        text = str(getattr(fault, "text", fault))
        if "willReadFrequently" not in text:  # only these tests read the canvas
            self.faults.append(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.page.remove_listener("console", self.note)
        self.page.remove_listener("pageerror", self.note)

    def until(self, expression, seconds=300):
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"it never came true: {expression}"
            time.sleep(0.005)

    def pixels(self, canvas="dream"):
        return self.page.evaluate(
            "(id) => { const c = document.getElementById(id);"
            " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 < 3) }",
            canvas,
        )

    def number(self):
        return int(self.page.evaluate("document.body.dataset.number"))

    def kind(self):
        return self.page.evaluate("document.body.dataset.kind")

    def until_number(self, test):
        self.until(f"((number) => {test})(Number(document.body.dataset.number))")

    def then_drawn(self, act):
        """Do something that sends a request, then wait for the frame that answers it.

        Any later frame would not do: it may answer an earlier request.
        """
        before = self.page.evaluate("Number(document.body.dataset.requested ?? 0)")
        act()
        self.until(f"Number(document.body.dataset.requested) > {before}")
        self.until("Number(document.body.dataset.answered) >= Number(document.body.dataset.requested)")

    def set(self, selector, value):
        """Move a slider as a hand would: its value, then the event."""
        self.page.locator(selector).evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })) }",
            value,
        )

    def step(self, count=1):
        for _ in range(count):
            self.then_drawn(lambda: self.page.click("#step"))

    @contextlib.contextmanager
    def fingers(self, *selectors):
        """Within: a finger rests on each of these elements. Touches of the browser itself, not made events."""
        session = self.page.context.new_cdp_session(self.page)
        points = []
        for number, selector in enumerate(selectors):
            self.page.locator(selector).scroll_into_view_if_needed()
            box = self.page.locator(selector).bounding_box()
            points.append({"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "id": number})
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
        try:
            yield points
        finally:
            session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            session.detach()

    def drag(self, selector, share):
        """A finger that touches a horizontal slider in the middle and lets go at a share of its width."""
        box = self.page.locator(selector).bounding_box()
        session = self.page.context.new_cdp_session(self.page)
        y = box["y"] + box["height"] / 2
        for kind, at in (
            ("touchStart", 0.5),
            ("touchMove", (0.5 + share) / 2),
            ("touchMove", share),
            ("touchEnd", None),
        ):
            points = [] if at is None else [{"x": box["x"] + at * box["width"], "y": y}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        session.detach()

    def gamepad(self, axes=(0, 0), pressed=(), connected=True):
        """Let the page find a gamepad in this state, as the browser would report it."""
        buttons = [{"pressed": i in pressed} for i in range(16)]
        self.page.evaluate(
            "(pad) => { navigator.getGamepads = () => [null, pad];"
            " if (!window.announced) { window.announced = true; dispatchEvent(new Event('gamepadconnected')) } }",
            {"connected": connected, "axes": list(axes), "buttons": buttons},
        )

    def until_held(self, *keys):
        """Wait until exactly these buttons of the pad are held down."""
        self.until(
            "[...document.querySelectorAll('#pad .held')].map((one) => one.dataset.key).sort().join()"
            f" === {','.join(sorted(keys))!r}"
        )


@pytest.fixture
def tab(laptop, url):
    with Tab(laptop, url) as tab:
        yield tab
        assert tab.faults == []


def test_legend_names_what_is_shown(tab):
    assert tab.page.inner_text("#own-key") == "dream"
    assert tab.page.inner_text("#beside-key") == tab.page.inner_text("#beside-word").lower() == "recording"


def test_play_changes_the_frame_pause_holds_it_and_reset_returns_to_the_start_frame(tab):
    real = tab.pixels()
    assert tab.kind() == "real"
    assert tab.pixels("truth") == real
    assert len(set(real)) == 2  # a square on a ground
    tab.page.click("#play")
    tab.until_number("number >= 5")
    assert tab.pixels() != real
    assert tab.kind() == "dream"
    tab.page.click("#play")
    tab.until("document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    number, held = tab.number(), tab.pixels()
    tab.page.wait_for_timeout(300)
    assert (tab.number(), tab.pixels()) == (number, held)
    tab.then_drawn(lambda: tab.page.click("#reset"))
    assert tab.pixels() == real
    assert (tab.number(), tab.kind()) == (0, "real")


def test_latent_slider_changes_the_frame_and_stays_pinned(tab):
    before = tab.pixels()
    tab.then_drawn(lambda: tab.set(".bar:nth-child(1) input", 0.25))
    assert set(tab.pixels()) == {64}
    assert tab.kind() == "hand"
    tab.then_drawn(lambda: tab.set(".bar:nth-child(1) input", 1))
    assert set(tab.pixels()) == {255}
    assert tab.page.locator(".bar.pinned").count() == 1
    tab.step(2)
    assert tab.kind() == "hand"
    assert tab.page.locator(".bar:nth-child(1) input").input_value() == "1"
    tab.then_drawn(lambda: tab.page.click("#free"))
    assert tab.page.locator(".bar.pinned").count() == 0
    tab.then_drawn(lambda: tab.page.click("#reset"))
    assert tab.pixels() == before


def test_temperature_changes_sampled_latents(tab):
    def latents(warmth):
        tab.set("#control-warmth", warmth)
        tab.then_drawn(lambda: tab.page.click("#again"))
        tab.step(3)
        return [tab.page.locator(f".bar:nth-child({i}) input").input_value() for i in (2, 3)]

    assert latents(0) == ["0", "0"]
    first = latents(1)
    assert first != ["0", "0"]
    assert latents(1) == first  # the same draws again
    assert latents(2) != first
    assert tab.page.locator("#controls output").inner_text() == "2.00"


def test_wait_ends_with_the_frame_that_answers_the_request(tab, monkeypatch):
    """Frames that answer earlier requests, here that of the slider, arrive late and do not end a later wait."""
    look = Session.look

    def slow_look(session, still=False):
        time.sleep(0.3)
        return look(session, still)

    monkeypatch.setattr(Session, "look", slow_look)
    tab.set("#control-warmth", 1)
    tab.then_drawn(lambda: tab.page.click("#again"))
    tab.step(3)
    assert tab.number() == 3


def test_keys_change_the_outcome(tab):
    page = tab.page
    tab.set("#control-warmth", 0)

    def brightness(key):
        tab.then_drawn(lambda: page.click("#again"))
        page.locator("#scrub").blur()
        page.keyboard.down(key)
        tab.step(3)
        assert page.locator("#pad .held").count() == 1
        page.keyboard.up(key)
        return sum(tab.pixels()) / len(tab.pixels())

    dark, bright = brightness("ArrowLeft"), brightness("ArrowRight")
    assert bright > dark + 20
    assert page.locator("#pad .held").count() == 0
    assert not page.locator("#follow").is_checked()
    assert page.locator("#recorded").inner_text() == "under its own actions"
    tab.step()
    assert page.locator("#doing").inner_text() == "noop"


def test_all_functions_work_by_keyboard(tab):
    page, keyboard = tab.page, tab.page.keyboard
    seen = []
    for _ in range(40):
        keyboard.press("Tab")
        found = page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')")
        seen.append(found)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert found is None or outline != "none", found
    wanted = {"play", "step", "reset", "record", "scrub", "starts", "speed", "control-warmth", "latent dimension 0"}
    assert wanted <= set(seen)
    page.evaluate("document.activeElement.blur()")
    tab.then_drawn(lambda: keyboard.press("."))
    tab.then_drawn(lambda: keyboard.press("."))
    assert tab.number() == 2
    tab.then_drawn(lambda: keyboard.press(","))
    assert tab.number() == 1
    first = page.locator("#starts").input_value()
    tab.then_drawn(lambda: keyboard.press("n"))
    assert page.locator("#starts").input_value() != first
    tab.then_drawn(lambda: keyboard.press("p"))
    tab.until_number("number > 2")
    keyboard.press("Space")
    tab.until("document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    tab.then_drawn(lambda: keyboard.press("r"))
    assert tab.number() == 0
    page.focus(".bar:nth-child(2) input")
    tab.then_drawn(lambda: keyboard.press("ArrowUp"))
    assert page.locator(".bar.pinned").count() == 1
    tab.then_drawn(lambda: keyboard.press("Delete"))
    assert page.locator(".bar.pinned").count() == 0


def test_scrub_bar_shows_earlier_frames(tab):
    tab.step(6)
    last = tab.pixels()
    tab.then_drawn(lambda: tab.set("#scrub", 0))
    assert tab.kind() == "real"
    tab.then_drawn(lambda: tab.set("#scrub", 6))
    assert tab.pixels() == last
    tab.then_drawn(lambda: tab.page.click("#back"))
    assert tab.number() == 5
    line = tab.page.evaluate(
        "[...document.getElementById('chart').getContext('2d').getImageData(0, 0, 400, 40).data].some((v) => v)"
    )
    assert line


def test_recording_is_saved_as_video(tab, tmp_path):
    tab.then_drawn(lambda: tab.page.click("#record"))
    tab.step(4)
    with tab.page.expect_download() as waiting:
        tab.page.click("#record")
        tab.until("/being written|A video of/.test(document.getElementById('word').textContent)")
    assert waiting.value.suggested_filename == "dream.mp4"
    waiting.value.save_as(tmp_path / "dream.mp4")
    assert len(read_video(tmp_path / "dream.mp4").frames) == 5
    assert "A video of 5 frames" in tab.page.locator("#word").inner_text()


def test_phone_layout_fits_and_buttons_respond_to_touch(browser, url):
    with browser.new_context(**PHONE) as context, Tab(context.new_page(), url) as tab:
        page = tab.page
        tab.set("#control-warmth", 0)
        tab.step()
        before = sum(tab.pixels())
        button = page.locator("#pad [data-key=right]").bounding_box()
        assert min(button["width"], button["height"]) >= 44
        with tab.fingers("#pad [data-key=right]"):
            tab.until_held("right")
            for _ in range(4):
                tab.then_drawn(lambda: page.evaluate("document.getElementById('step').click()"))
        tab.until_held()
        assert sum(tab.pixels()) > before + 10
        with tab.fingers("#pad [data-key=left]", "#pad [data-key=right]"):
            tab.until_held("left", "right")
        tab.until_held()
        number = tab.number()
        tab.then_drawn(lambda: page.tap("#step"))
        assert tab.number() == number + 1
        page.locator("#control-warmth").scroll_into_view_if_needed()
        tab.drag("#control-warmth", 0.9)
        assert float(page.locator("#control-warmth").input_value()) > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for selector in ("#transport button", "#bars input", "#starts"):
            for box in (one.bounding_box() for one in page.locator(selector).all()):
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 390
        assert tab.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_meets_wcag_aa(tab, scheme):
    """Contrast of every text with what lies behind it is at least 4.5 (WCAG AA)."""
    tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.step()
    tab.page.click("#keys summary")
    found = tab.page.evaluate(CONTRAST)
    assert len(found) > 25
    assert {text: ratio for text, ratio in found.items() if ratio < 4.5} == {}


CONTRAST = """() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true }) || node.matches(":disabled, :disabled *")) continue;
    let behind = node;
    while (behind && (parsed(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const back = parsed(getComputedStyle(behind ?? document.body).backgroundColor);
    let opacity = 1;
    for (let one = node; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    const front = parsed(getComputedStyle(node).color).slice(0, 3).map((v, i) => v * opacity + back[i] * (1 - opacity));
    const [a, b] = [light(front), light(back.slice(0, 3))];
    found[node.textContent.trim().slice(0, 30)] = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  }
  return found;
}"""


def test_page_reports_full_and_stopped_server(laptop, tmp_path):
    with serving(make_player(tmp_path / "data", "plain"), limits=limits(sessions=1)) as url:
        tab = Tab(laptop, url)
        second = laptop.context.new_page()
        second.set_default_timeout(300_000)
        second.goto(url)
        second.wait_for_selector("#reload:visible")
        assert second.locator("#curtain-message").inner_text().startswith("1 browser may play at once and all seats")
        second.close()
        tab.step()
        assert tab.faults == []
    laptop.wait_for_selector("#reload:visible")
    assert "The server is gone" in laptop.locator("#curtain-message").inner_text()


def test_model_without_controls_hides_their_sections(laptop, tmp_path):
    with serving(make_player(tmp_path / "data", "plain")) as url, Tab(laptop, url) as tab:
        for part in ("#code", "#pad", "#controls", "#again"):
            assert not tab.page.locator(part).is_visible()
        tab.page.keyboard.press("Space")  # nothing is bound to it: it plays
        tab.until_number("number > 2")
        assert tab.faults == []


def test_names_are_shown_as_text(laptop, tmp_path):
    player = make_player(tmp_path / "data", "plain")
    player.name = player.title = evil = "<img src=x onerror=alert(1)>"
    player.starts.source.names[:] = [evil] * len(player.starts.source.names)
    with serving(player) as url, Tab(laptop, url) as tab:
        assert tab.page.locator("#run").inner_text() == evil
        assert evil in tab.page.locator("#starts option").first.inner_text()
        assert tab.page.locator("img").count() == 0
        assert tab.faults == []


def test_memory_is_constant_over_many_frames(tab, monkeypatch):
    """What the package allocates and what the page holds, over a shorter form of the frames of benchmarks/playing.py.

    The memory of this process would not do: the browser's driver and earlier tests share it.
    """
    monkeypatch.setattr("framecast.web.session.HISTORY", 30)
    of_the_package = tracemalloc.Filter(True, str(Path(framecast.__file__).parent / "*"))

    def held():
        gc.collect()
        tab.page.request_gc()
        traces = tracemalloc.take_snapshot().filter_traces([of_the_package]).traces
        return sum(trace.size for trace in traces), tab.page.evaluate("performance.memory.usedJSHeapSize")

    tracemalloc.start()
    try:
        tab.set("#speed", 61)
        tab.page.click("#play")
        tab.until_number("number > 40")
        before = held()
        tab.until_number("number > 140")
        grown = [after - then for after, then in zip(held(), before, strict=True)]
    finally:
        tracemalloc.stop()
    assert before[0] > 0
    assert grown[0] < 35_000  # moments that stayed would be 100 times 550 bytes
    assert grown[1] < 1e6
    assert tab.page.evaluate("document.getElementById('scrub').max - document.getElementById('scrub').min") == 29


def test_page_shows_speed_and_latency(tab):
    page = tab.page
    page.click("#play")
    tab.until_number("number > 4")
    page.keyboard.press("ArrowRight")
    tab.until("document.body.dataset.p95 > 0")
    tab.until("/^\\d/.test(document.getElementById('fps').textContent)")
    assert re.fullmatch(r"[\d.]+ ms, [\d.]+", page.locator("#latency").inner_text())
    assert re.fullmatch(r"[\d.]+ ms, [\d.]+", page.locator("#model-ms").inner_text())


def test_a_learned_world_obeys_a_gamepad(browser, url):
    """Stick and cross are the arrows; a gamepad that is unplugged lets go."""
    with browser.new_context(**LAPTOP) as context, Tab(context.new_page(), url) as tab:
        for axes, pressed, keys, label in (
            ((1, 0), (), ["right"], "right"),
            ((-0.8, 0), (), ["left"], "left"),
            ((0, 0), (15,), ["right"], "right"),
            ((0.3, 0), (), [], "noop"),  # a stick hardly moved
        ):
            tab.gamepad(axes, pressed)
            tab.until_held(*keys)
            tab.step()
            assert tab.page.inner_text("#doing") == label
        tab.gamepad((1, 0))
        tab.until_held("right")
        tab.gamepad((1, 0), connected=False)
        tab.until_held()
        assert tab.faults == []


def test_a_real_game_obeys_keys_and_gamepad_and_shows_the_score(browser):
    with (
        serving(GamePlayer(open_game("paddle"))) as url,
        browser.new_context(**LAPTOP) as context,
        Tab(context.new_page(), url) as tab,
    ):
        assert tab.page.inner_text("#dream-word") == "Game"
        assert tab.page.inner_text("#score") == "score 0"
        assert not tab.page.is_visible("#beside")
        assert tab.page.inner_text(".key").split(": ")[1].strip() == "game"  # the legend names what is shown
        before = tab.pixels()
        tab.page.keyboard.down("ArrowUp")
        tab.step(3)
        tab.page.keyboard.up("ArrowUp")
        assert tab.page.inner_text("#doing") == "up"
        assert tab.pixels() != before
        tab.gamepad((0, 1))
        tab.until_held("down")
        tab.step(2)
        assert tab.page.inner_text("#doing") == "down"
        assert not tab.faults
