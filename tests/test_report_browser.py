"""The report in a real browser: it sorts, fits a phone, prints, and never leaves the page."""

import json
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from emoray import report
from emoray.report.run import read
from tests.browser import drawn, on, opened, shown
from tests.run_folder import EVIL, build

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: webdriver.Chrome, hostile_run: Path) -> webdriver.Chrome:
    """The report, opened anew at 1280 pixels in the light theme."""
    return opened(browser, hostile_run / "report.html")


def column(page: webdriver.Chrome, index: int) -> list[str]:
    cells = page.find_elements(By.CSS_SELECTOR, f"#trials tr:not(.chips) > td:nth-child({index + 1})")
    return [str(cell.get_dom_attribute("data-value") or "") for cell in cells]


def heading(page: webdriver.Chrome, name: str) -> tuple[int, WebElement]:
    headings = page.find_elements(By.CSS_SELECTOR, "#trials thead th")
    index = next(i for i, th in enumerate(headings) if th.text.strip().startswith(name))
    return index, headings[index]


def test_nothing_leaves_the_page_and_nothing_is_complained_of(page: webdriver.Chrome, hostile_run: Path) -> None:
    for button in shown(page, ".tabs button, .legend button, .more"):
        page.execute_script("arguments[0].click()", button)
    for box in shown(page, ".figure"):
        drawn(page, box)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert (hostile_run / "report.html").as_uri() in asked
    assert [url for url in asked if not url.startswith(("data:", (hostile_run / "report.html").as_uri()))] == []
    assert page.get_log("browser") == []


def test_policy_stops_what_escaping_might_miss(page: webdriver.Chrome) -> None:
    """A script that got into the page all the same would not run, and an image would not be fetched."""
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
    )
    assert page.execute_script("return window.broken") is None
    told = [entry["message"] for entry in page.get_log("browser")]
    assert sum("Content Security Policy" in message for message in told) >= 2


def test_hostile_class_is_text(page: webdriver.Chrome) -> None:
    assert EVIL in [th.text for th in shown(page, ".confusion tbody th")]
    scripts = page.find_elements(By.TAG_NAME, "script")
    assert [s.get_dom_attribute("type") for s in scripts if not s.get_dom_attribute("type")] == [None, None]
    assert {s.get_dom_attribute("type") for s in scripts} == {None, "application/json"}


def test_every_picture_is_there(page: webdriver.Chrome, hostile_run: Path) -> None:
    page.execute_script("document.querySelectorAll('.panel').forEach((panel) => { panel.hidden = false; })")
    images = page.find_elements(By.TAG_NAME, "img")
    assert len(images) > 100
    page.execute_script("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    found = page.execute_async_script(
        "const done = arguments[0]; const images = [...document.images];"
        "const told = () => done(images.map((i) => [i.naturalWidth, i.width, i.alt]));"
        "Promise.allSettled(images.map((i) => i.decode())).then(told)"
    )
    assert all(natural > 0 and width > 5 and alt for natural, width, alt in found)
    assert len(page.find_elements(By.CSS_SELECTOR, ".warning")) == 1


def test_tabs_within_tabs_keep_apart(page: webdriver.Chrome) -> None:
    outer = shown(page, "#inside > .tabbed > .tabs button")
    inner = shown(page, "#inside .panel .tabs button")
    assert len(outer) > 1
    assert len(inner) == 6
    page.execute_script("arguments[0].click()", inner[2])
    assert [button.get_dom_attribute("aria-pressed") for button in outer] == ["true"] + ["false"] * (len(outer) - 1)
    assert inner[2].get_dom_attribute("aria-pressed") == "true"
    assert len(shown(page, "#inside .features")) == 1
    page.execute_script("arguments[0].click()", outer[1])
    assert inner[2].get_dom_attribute("aria-pressed") == "true"
    assert not inner[2].is_displayed()
    assert len(shown(page, "#inside .features")) == 1


def test_table_sorts_by_click(page: webdriver.Chrome) -> None:
    index, th = heading(page, "macro-F1")
    assert th.get_dom_attribute("aria-sort") == "descending", "as the page comes"
    down = [float(value) for value in column(page, index) if value]
    assert down == sorted(down, reverse=True)
    page.execute_script("arguments[0].click()", th.find_element(By.TAG_NAME, "button"))
    assert th.get_dom_attribute("aria-sort") == "ascending"
    up = column(page, index)
    assert [float(value) for value in up if value] == down[::-1]
    assert up[-1] == "", "trials without a score come last both ways"


def test_every_sortable_table_puts_the_best_first(page: webdriver.Chrome) -> None:
    tables = page.find_elements(By.CSS_SELECTOR, "table.sortable")
    assert len(tables) == 3
    less = set()
    for table in tables:
        for i, th in enumerate(table.find_elements(By.CSS_SELECTOR, "thead th")):
            if th.get_dom_attribute("class") != "n":
                continue
            page.execute_script("arguments[0].setAttribute('aria-sort', 'none')", th)  # the page comes sorted by score
            page.execute_script("arguments[0].click()", th.find_element(By.TAG_NAME, "button"))
            cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr:not(.chips) > :nth-child({i + 1})")
            texts = [cell.get_dom_attribute("data-value") for cell in cells]
            values = [float(text) for text in texts if text]
            lower = th.get_dom_attribute("data-lower") is not None
            assert values, "every numeric cell says its number"
            assert values == sorted(values, reverse=not lower)
            assert all(texts[: len(values)]), "what is missing comes last"
            less |= {th.text.strip()} if lower else set()
    assert less == {"log-loss", "scaled", "ECE", "Brier"}


def test_table_sorts_by_keyboard(page: webdriver.Chrome) -> None:
    index, th = heading(page, "log-loss")
    th.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert th.get_dom_attribute("aria-sort") == "ascending"
    values = [float(value) for value in column(page, index) if value]
    assert values == sorted(values), "the least log-loss is the best"
    others = page.find_elements(By.CSS_SELECTOR, "#trials thead th[aria-sort]:not([aria-sort=none])")
    assert len(others) == 1


def test_long_table_shows_its_best_and_then_all(page: webdriver.Chrome, hostile_run: Path) -> None:
    assert len(shown(page, "#trials tbody")) == 20
    more = page.find_element(By.CSS_SELECTOR, "#trials .more")
    on(page, more).click(more).perform()
    assert len(shown(page, "#trials tbody")) == len(read(hostile_run).trials)


@pytest.mark.parametrize("width", [1280, 390])
def test_code_and_settings_are_not_cut(browser: webdriver.Chrome, hostile_run: Path, width: int) -> None:
    page = opened(browser, hostile_run / "report.html", width=width)
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    boxes = shown(page, "pre, .chips span")
    assert len(shown(page, "pre")) > 4
    assert len(shown(page, ".chips span")) > 20
    cut = "return arguments[0].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)"
    assert page.execute_script(cut, boxes) == []
    section = page.find_element(By.ID, "use").size["width"]
    assert {box.size["width"] for box in shown(page, "#use pre")} == {section}, "all the width there is"


@pytest.mark.parametrize("width", [1280, 390])
def test_tiles_leave_no_hole(browser: webdriver.Chrome, hostile_run: Path, width: int) -> None:
    page = opened(browser, hostile_run / "report.html", width=width)
    for _ in range(4):  # with one tile less each time
        assert page.execute_script(
            "const facts = document.querySelector('.facts'); const box = facts.getBoundingClientRect();"
            "const color = getComputedStyle(facts).backgroundColor;"
            "const last = facts.lastElementChild.getBoundingClientRect();"
            "facts.lastElementChild.remove();"
            "return color === 'rgba(0, 0, 0, 0)' && (innerWidth > 640 || Math.abs(box.right - last.right) < 2)"
        )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_has_nothing_beside_the_page(browser: webdriver.Chrome, hostile_run: Path, theme: str) -> None:
    page = opened(browser, hostile_run / "report.html", width=390, theme=theme)
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for _ in range(9):
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        tabs = shown(page, ".tabs button[aria-pressed=true] + button")
        for tab in tabs:
            page.execute_script("arguments[0].click()", tab)
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 26)")


def test_print_is_light_and_has_no_controls(browser: webdriver.Chrome, hostile_run: Path) -> None:
    page = opened(browser, hostile_run / "report.html", theme="dark")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert shown(page, "nav, .tabs, .more") == []
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(shown(page, ".panel")) == len(page.find_elements(By.CSS_SELECTOR, ".panel")) > 20
    assert len(shown(page, ".panel-title")) == len(shown(page, ".panel")), "each says of what it is"
    assert len(shown(page, "#trials tbody")) == len(read(hostile_run).trials)


def test_without_scripts_all_is_there_but_the_charts(browser: webdriver.Chrome, hostile_run: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = opened(browser, hostile_run / "report.html")
        assert len(shown(page, ".panel")) == len(page.find_elements(By.CSS_SELECTOR, ".panel")) > 20
        assert len(shown(page, ".panel-title")) == len(shown(page, ".panel"))
        assert shown(page, ".tabs") == []
        assert "scripts are switched off" in page.find_element(By.TAG_NAME, "noscript").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("damage", ["begun", "two"])
def test_small_runs_open_without_complaint(browser: webdriver.Chrome, tmp_path: Path, damage: str) -> None:
    folder = build(tmp_path / "run", studies=1, trials=2, epochs=1, ensemble=damage == "two", test=False)
    if damage == "begun":
        for path in folder.glob("trials/*/history.csv"):
            path.unlink()
    page = opened(browser, report.write(folder), width=390)
    assert page.get_log("browser") == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert len(page.find_elements(By.TAG_NAME, "h2")) == 8
