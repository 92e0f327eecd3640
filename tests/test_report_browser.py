"""The report in a real browser: it draws, sorts, names, filters, fits a phone, and never leaves the page.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and skips where they are not installed.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from emoray import report
from emoray.report.run import read
from tests.run_folder import EMOTIONS, build

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
EVIL = "<script>alert(1)</script>"
LONG = "class_with_an_exceedingly_long_name_that_has_nowhere_to_break_" * 2


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 trials in 9 studies, more than there are colours, with names that mean harm."""
    classes = (*EMOTIONS[:4], EVIL, LONG)
    folder = build(tmp_path_factory.mktemp("runs") / "hostile", studies=9, trials=40, epochs=12, classes=classes)
    report.write(folder)
    return folder


@pytest.fixture
def page(browser: webdriver.Chrome, folder: Path) -> webdriver.Chrome:
    """The report, opened anew at 1280 pixels in the light theme."""
    return opened(browser, folder / "report.html")


def opened(browser: webdriver.Chrome, path: Path, width: int = 1280, theme: str = "light") -> webdriver.Chrome:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [feature]})
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    return browser


def shown(page: webdriver.Chrome, selector: str) -> list[WebElement]:
    return [element for element in page.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def column(page: webdriver.Chrome, index: int) -> list[str]:
    cells = page.find_elements(By.CSS_SELECTOR, f"#trials tbody tr > :nth-child({index + 1})")
    return [str(cell.get_dom_attribute("data-value") or "") for cell in cells]


def heading(page: webdriver.Chrome, name: str) -> tuple[int, WebElement]:
    headings = page.find_elements(By.CSS_SELECTOR, "#trials thead th")
    index = next(i for i, th in enumerate(headings) if th.text.strip().startswith(name))
    return index, headings[index]


def on(page: webdriver.Chrome, element: WebElement) -> ActionChains:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return ActionChains(page)


def test_nothing_leaves_the_page_and_nothing_is_complained_of(page: webdriver.Chrome, folder: Path) -> None:
    for button in shown(page, ".tabs button, .legend button, .more"):
        page.execute_script("arguments[0].click()", button)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert (folder / "report.html").as_uri() in asked
    assert [url for url in asked if not url.startswith(("data:", (folder / "report.html").as_uri()))] == []
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
    assert len(page.find_elements(By.TAG_NAME, "script")) == 1


def test_every_figure_draws(page: webdriver.Chrome, folder: Path) -> None:
    page.execute_script("document.querySelectorAll('.panel').forEach((panel) => { panel.hidden = false; })")
    plots = page.find_elements(By.CSS_SELECTOR, ".plot")
    run = read(folder)
    assert len(plots) >= 6 + 2 + 1 + len(run.studies) - 1
    for plot in plots:
        drawn = page.execute_script(
            "return [...arguments[0].querySelectorAll('.series')].map((line) => {"
            "  const box = line.getBoundingClientRect();"
            "  return [box.width + box.height, getComputedStyle(line).stroke, line.getAttribute('d'), box.x]; })",
            plot,
        )
        assert plot.size["height"] > 150
        assert plot.size["width"] > 200
        assert drawn
        across = [x for *_, x in drawn]
        assert any(extent > 50 for extent, *_ in drawn) or max(across) - min(across) > 50, "lines, or points apart"
        assert all(stroke not in ("none", "") and "NaN" not in path for _, stroke, path, _ in drawn)
    curves = page.find_element(By.CSS_SELECTOR, "#training .plot").find_elements(By.CSS_SELECTOR, ".series")
    assert {curve.get_dom_attribute("data-trial") for curve in curves} == {trial.name for trial in run.trials}


def test_every_picture_is_there(page: webdriver.Chrome, folder: Path) -> None:
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
    page.execute_script("arguments[0].click()", th.find_element(By.TAG_NAME, "button"))
    assert th.get_dom_attribute("aria-sort") == "descending"
    down = [float(value) for value in column(page, index) if value]
    assert down == sorted(down, reverse=True)
    page.execute_script("arguments[0].click()", th.find_element(By.TAG_NAME, "button"))
    assert th.get_dom_attribute("aria-sort") == "ascending"
    up = column(page, index)
    assert [float(value) for value in up if value] == down[::-1]
    assert up[-1] == "", "trials without a score come last both ways"


def test_table_sorts_by_keyboard(page: webdriver.Chrome) -> None:
    index, th = heading(page, "log-loss")
    th.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert th.get_dom_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(page, index) if value]
    assert values == sorted(values, reverse=True)
    others = page.find_elements(By.CSS_SELECTOR, "#trials thead th[aria-sort]:not([aria-sort=none])")
    assert len(others) == 1


def test_long_table_shows_its_best_and_then_all(page: webdriver.Chrome, folder: Path) -> None:
    assert len(shown(page, "#trials tbody tr")) == 20
    more = page.find_element(By.CSS_SELECTOR, "#trials .more")
    on(page, more).click(more).perform()
    assert len(shown(page, "#trials tbody tr")) == len(read(folder).trials)


def test_pointer_names_the_trial_and_marks_it_everywhere(page: webdriver.Chrome, folder: Path) -> None:
    plot = page.find_element(By.CSS_SELECTOR, "#training .plot")
    best = plot.find_element(By.CSS_SELECTOR, ".series.best")
    name = str(best.get_dom_attribute("data-trial"))
    path = str(best.get_dom_attribute("d"))
    x, y = (float(part) / 1000 - 0.5 for part in path.rpartition("L")[2].split(","))
    on(page, plot).move_to_element_with_offset(
        plot, int(x * plot.size["width"]) - 2, int(y * plot.size["height"])
    ).perform()
    tip = page.find_element(By.ID, "tip")
    assert tip.text.startswith(name)
    assert "epoch 12: 0." in tip.text
    marked = page.find_elements(By.CSS_SELECTOR, ".on")
    assert {str(element.get_dom_attribute("data-trial")) for element in marked} == {name}
    assert {element.tag_name for element in marked} == {"path", "tr"}


def test_legend_hides_a_study(page: webdriver.Chrome, folder: Path) -> None:
    before = len(shown(page, "#training .panel:not([hidden]) .series[data-study='0']"))
    button = page.find_element(By.CSS_SELECTOR, ".legend button")
    on(page, button).click(button).perform()
    assert before > 0
    assert shown(page, "#training .panel:not([hidden]) .series[data-study='0']") == []
    assert button.get_dom_attribute("aria-pressed") == "false"


def test_settings_are_filtered_by_dragging_and_by_keyboard(page: webdriver.Chrome) -> None:
    axis = shown(page, ".axis")[0]
    plot = shown(page, "[data-parallel]")[0]
    total = len(plot.find_elements(By.CSS_SELECTOR, ".series"))
    half = axis.size["height"] // 2
    on(page, axis).move_to_element_with_offset(axis, 0, 4 - half).click_and_hold().move_by_offset(
        0, 40
    ).release().perform()
    told = shown(page, ".kept")[0].text
    out = len(plot.find_elements(By.CSS_SELECTOR, ".series.out"))
    assert 0 < out < total
    assert told == f"{total - out} of {total} trials kept"
    axis.send_keys(Keys.ESCAPE)
    assert plot.find_elements(By.CSS_SELECTOR, ".series.out") == []
    axis.send_keys(Keys.ARROW_UP)
    assert len(plot.find_elements(By.CSS_SELECTOR, ".series.out")) >= 1, "the worst trial lies at the axis' lower end"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_has_nothing_beside_the_page(browser: webdriver.Chrome, folder: Path, theme: str) -> None:
    page = opened(browser, folder / "report.html", width=390, theme=theme)
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for _ in range(9):
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        tabs = shown(page, ".tabs button[aria-pressed=true] + button")
        for tab in tabs:
            page.execute_script("arguments[0].click()", tab)
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 26)")


def test_print_is_light_and_has_no_controls(browser: webdriver.Chrome, folder: Path) -> None:
    page = opened(browser, folder / "report.html", theme="dark")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert shown(page, "nav, .tabs, .more") == []
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


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
