"""The page without a server program: what the folder holds, and how it plays in a real browser without a network."""

# ruff: noqa: F401, F811 - fixtures come by import

import functools
import http.server
import json
import shutil
import threading

import pytest
from small_world import REGIONS, SIDE, graphs_of, traced_once, write_world

from framecast.core.errors import UserError
from framecast.data.cache import cache_folder
from framecast.training.run_folder import open_run
from framecast.web import runtime
from framecast.web.static import export_page


@pytest.fixture(scope="module")
def kept_runtime():
    """The browser's runtime in the user's cache; tests have a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAMECAST_CACHE", raising=False)
        folder = cache_folder() / f"onnxruntime-web-{runtime.VERSION}"
    if not runtime.is_complete(folder):
        pytest.skip("needs onnxruntime-web in the cache: python -m framecast.web.runtime")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory, kept_runtime, traced_once):
    folder = tmp_path_factory.mktemp("world")
    with graphs_of(traced_once):
        found = export_page(open_run(write_world(folder, **REGIONS)), folder / "page", runtime=kept_runtime)
    assert found.difference <= 1e-3
    return folder / "page"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture(scope="module")
def url(page):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(page)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_the_folder_holds_page_graphs_runtime_and_real_frames(page):
    names = {p.relative_to(page).as_posix() for p in page.rglob("*") if p.is_file()}
    assert {
        "index.html",
        "world.json",
        "rollout_init.onnx",
        "rollout_step.onnx",
        "starts/0.png",
        *runtime.FILES,
    } <= names
    text = (page / "index.html").read_text()
    assert "default-src 'none'" in text
    for name in ("index.html", "play.css", "play.js", "rollout.js", "connection.js"):
        assert "://" not in (page / name).read_text(), "nothing is loaded from elsewhere"
    world = json.loads((page / "world.json").read_text())
    assert world["hello"]["local"] is True
    assert world["idle"] == 0
    assert len(world["starts"]) == len(world["hello"]["starts"])
    first = world["starts"][0]
    assert len(first["actions"]) == first["count"] - 1
    assert set(first["actions"]) <= {0, 1, 2}


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium: make setup-system")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, url):
    """The page on a telephone without a network; nothing may go wrong in it."""
    from tests.web.test_page import PHONE, Tab

    outside = []
    with browser.new_context(**PHONE) as context:
        context.route(lambda address: not address.startswith(url), lambda route: (outside.append(route), route.abort()))
        with Tab(context.new_page(), url) as tab:
            yield tab
            assert tab.faults == []
    assert not outside


@pytest.mark.system
def test_the_page_plays_without_a_network_by_keys_and_sliders(tab):
    start = tab.pixels()
    assert len(start) == 3 * SIDE * SIDE
    assert (tab.kind(), tab.number(), tab.pixels("truth")) == ("real", 0, start)
    tab.step(2)
    assert (tab.kind(), tab.number()) == ("dream", 2)
    plain = tab.pixels()
    tab.page.keyboard.press(",")
    tab.until_number("number === 1")
    tab.set("#control-temperature", 1.5)
    tab.step()
    assert tab.pixels() != plain
    tab.then_drawn(lambda: tab.page.click("#reset"))
    assert tab.pixels() == start
    tab.page.keyboard.down("ArrowDown")
    tab.step()
    assert tab.page.inner_text("#doing") == "down"
    tab.page.keyboard.up("ArrowDown")
    tab.then_drawn(lambda: tab.page.click("#next"))
    assert tab.page.locator("#starts").input_value() == "1"
    tab.page.click("#play")
    tab.until_number("number >= 5")
    assert not tab.page.is_visible("#record")


@pytest.mark.system
def test_touch_steers_the_page_without_a_server(tab):
    by_script = "document.getElementById('step').click()"  # the finger stays where it is
    with tab.fingers("#pad [data-key=up]"):
        tab.until_held("up")
        tab.then_drawn(lambda: tab.page.evaluate(by_script))
        assert tab.page.inner_text("#doing") == "up"
    tab.until_held()
    with tab.fingers("#pad [data-key=up]", "#pad [data-key=down]"):
        tab.until_held("down", "up")
    tab.until_held()
    number = tab.number()
    tab.then_drawn(lambda: tab.page.tap("#step"))
    assert tab.number() == number + 1
    tab.page.locator("#control-temperature").scroll_into_view_if_needed()
    before = float(tab.page.locator("#control-temperature").input_value())
    tab.drag("#control-temperature", 0.9)
    assert float(tab.page.locator("#control-temperature").input_value()) > before
    tab.then_drawn(lambda: tab.page.tap("#reset"))
    assert (tab.kind(), tab.number()) == ("real", 0)
    tab.page.tap("#play")
    tab.until_number("number >= 3")
    tab.page.tap("#play")


@pytest.mark.system
def test_a_gamepad_steers_the_page_without_a_server(tab):
    for axes, pressed, keys, label in (
        ((0, 1), (), ["down"], "down"),
        ((0, -1), (), ["up"], "up"),
        ((0, 0), (13,), ["down"], "down"),
        ((0, 0.2), (), [], "noop"),
    ):
        tab.gamepad(axes, pressed)
        tab.until_held(*keys)
        tab.step()
        assert tab.page.inner_text("#doing") == label


def test_a_folder_that_is_no_runtime_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is not the npm package onnxruntime-web@1\.\d+\.0; unpack that version"):
        runtime.runtime_folder(tmp_path)


def test_without_npm_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match="npm, which fetches it, is not installed; install npm, or unpack the npm package"
    ):
        runtime.runtime_folder()


def test_a_package_with_other_contents_is_refused_and_not_kept(monkeypatch, tmp_path):
    """npm is replaced by a script that packs other files of the same names."""
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in runtime.FILES:
        (tmp_path / "package" / "dist" / name).write_text("other")
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\ntar czf "$5/package.tgz" -C {tmp_path} package\n')
    npm.chmod(0o755)
    monkeypatch.setattr(runtime.shutil, "which", lambda _: str(npm))
    with pytest.raises(UserError, match="has other contents than expected"):
        runtime.runtime_folder()
    assert not runtime.cached_folder().exists()
