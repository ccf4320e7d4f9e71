"""The status page in a real browser: what it shows, by mouse and by keyboard, light and dark."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Server, serve
from tests.waiting import SECONDS

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve("tests.status.app:app") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        # A container has no sandbox of its own to give.
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Any, server: Server) -> Iterator[Any]:
    made = browser.new_page(color_scheme=request.param, viewport={"width": 1300, "height": 1000})
    mistakes: list[str] = []
    made.on("pageerror", lambda error: mistakes.append(str(error)))
    made.on("console", lambda told: mistakes.append(told.text) if told.type == "error" else None)
    for path in ("/page?x=1", "/teapot", "/page?x=2"):
        httpx.get(f"{server.url}{path}", headers={"x-request-id": "<b>id</b>"}, timeout=60)
    made.goto(f"{server.url}/_wasm/")
    made.wait_for_selector("#list li")
    yield made
    made.close()
    assert mistakes == []


def wait_until(page: Any, condition: Callable[[], bool]) -> None:
    """The page's policy lets nothing be evaluated in it by `wait_for_function`."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, page.inner_text("body")
        page.wait_for_timeout(25)


def background(page: Any) -> str:
    shown: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return shown


def test_plugins_and_requests_are_shown(page: Any, tmp_path: Path) -> None:
    assert page.inner_text("#summary") == "2 of 2 run"
    rows = page.locator("#plugins tbody tr")
    assert rows.count() == 2
    assert "running" in rows.nth(0).inner_text() and "Rust" in rows.nth(0).inner_text()
    if find_spec("cel_expr_python"):
        assert "when request.path != '/never'" in rows.nth(0).inner_text()
    assert page.locator("#list li").count() >= 3 and "x=2" in page.locator("#list li").nth(0).inner_text()
    assert page.locator("#times figure svg").count() == 2
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_a_waterfall_by_mouse_and_by_keyboard(page: Any) -> None:
    page.locator("#list li", has_text="/teapot").first.click()
    page.wait_for_selector(".fall")
    text = page.inner_text("#trace")
    # What a client sends is never read as HTML.
    assert "request id <b>id</b>" in text
    assert "418 by the plugin or host" in text and "send_local_response" in text and "fault on_request_headers" in text
    assert page.locator(".fall rect.callback").count() and page.locator(".fall rect.hostcall").count()
    assert page.locator("#list li[aria-selected=true]").inner_text().startswith("418")
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    wait_until(page, lambda: "/page?x=1" in page.inner_text("#trace"))
    assert "the app" in page.inner_text("#trace")
    page.keyboard.press("Home")
    wait_until(page, lambda: "/page?x=2" in page.inner_text("#trace"))


def test_which_plugins_run_for_a_url(page: Any) -> None:
    page.fill("#url", "https://any.test/teapot?x")
    page.press("#url", "Enter")
    page.wait_for_selector("ol.plugins")
    assert [item.strip() for item in page.locator("ol.plugins li").all_inner_texts()] == ["headers", "fault"]
    page.fill("#url", "/page")
    page.press("#url", "Enter")
    wait_until(page, lambda: page.locator("ol.plugins li").count() == 1)


def test_keys_theme_and_reload(page: Any) -> None:
    before = background(page)
    seen = set()
    for _ in range(3):
        page.keyboard.press("t")
        seen.add(background(page))
    assert len(seen) == 2 and before == background(page)
    page.keyboard.press("p")
    assert page.get_attribute("#live", "aria-pressed") == "false"
    with page.expect_response(lambda response: response.url.endswith("/reload")) as told:
        page.keyboard.press("r")
    assert told.value.status == 200
    # Everything that can be used is reached by Tab, in order.
    page.evaluate("document.body.focus()")
    reached = set()
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"live", "theme", "reload", "method", "url"} <= reached


@pytest.mark.parametrize("width", [320, 390, 800])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    """Tables and waterfalls scroll on their own."""
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#list li").first.click()
    page.wait_for_selector(".fall")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_telephone_shows_all_of_it(page: Any) -> None:
    """Nothing lies beside the screen: each plugin is a block of names and values, each bar is below its name."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#list li", has_text="/teapot").first.click()
    page.wait_for_selector(".fall")
    right = "each => Math.max(...each.map(one => one.getBoundingClientRect().right))"
    for what in ("#plugins td", ".fall .picture", ".fall .took", "#times svg"):
        assert page.locator(what).evaluate_all(right) <= 390, what
    labels = (
        page.locator("#plugins tbody tr").first.locator("td").evaluate_all("each => each.map(o => o.dataset.label)")
    )
    assert labels[:3] == ["State", "Priority", "Requests now"]


def test_what_a_waterfall_cuts_is_shown_where_the_focus_is(page: Any) -> None:
    page.locator("#list li", has_text="/teapot").first.click()
    page.wait_for_selector(".fall")
    name = page.locator(".fall .name", has_text="send_local_response").first
    height = name.bounding_box()["height"]
    name.focus()
    assert name.bounding_box()["height"] > height
