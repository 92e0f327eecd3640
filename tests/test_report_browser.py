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
from selenium.webdriver.support.ui import WebDriverWait

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


def drawn(page: webdriver.Chrome, box: WebElement) -> WebElement:
    """The box of a figure, brought into view and drawn."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    done = "return arguments[0].querySelectorAll('.main-svg').length > 0 && Boolean(arguments[0]._fullLayout)"
    WebDriverWait(page, 60).until(lambda page: page.execute_script(done, box))
    return box


def figure(page: webdriver.Chrome, selector: str) -> WebElement:
    return drawn(page, page.find_element(By.CSS_SELECTOR, selector))


def place(page: webdriver.Chrome, box: WebElement, x: float, y: float) -> tuple[int, int]:
    """Where a point of a figure's data lies in the window."""
    found = page.execute_script(
        "const [box, x, y] = arguments; const { xaxis, yaxis } = box._fullLayout;"
        "const at = box.getBoundingClientRect();"
        "return [at.x + xaxis._offset + xaxis.c2p(x), at.y + yaxis._offset + yaxis.c2p(y)]",
        box, x, y,
    )  # fmt: skip
    return round(found[0]), round(found[1])


def point_at(page: webdriver.Chrome, x: int, y: int) -> None:
    chain = ActionChains(page)
    chain.w3c_actions.pointer_action.move_to_location(x - 3, y - 3)
    chain.w3c_actions.pointer_action.move_to_location(x, y)
    chain.perform()


def drag(page: webdriver.Chrome, start: tuple[int, int], end: tuple[int, int]) -> None:
    chain = ActionChains(page, duration=30)
    pointer = chain.w3c_actions.pointer_action
    pointer.move_to_location(*start).pointer_down()
    pointer.move_to_location((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
    pointer.move_to_location(*end).pointer_up()
    chain.perform()


def until_text(page: webdriver.Chrome, selector: str, part: str) -> str:
    told = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent).join('')"
    WebDriverWait(page, 30).until(lambda page: part in page.execute_script(told, selector))
    return str(page.execute_script(told, selector))


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
    for box in shown(page, ".figure"):
        drawn(page, box)
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
    scripts = page.find_elements(By.TAG_NAME, "script")
    assert [s.get_dom_attribute("type") for s in scripts if not s.get_dom_attribute("type")] == [None, None]
    assert {s.get_dom_attribute("type") for s in scripts} == {None, "application/json"}


def test_every_figure_draws(page: webdriver.Chrome, folder: Path) -> None:
    page.execute_script("document.querySelectorAll('.panel').forEach((panel) => { panel.hidden = false; })")
    boxes = page.find_elements(By.CSS_SELECTOR, ".figure")
    run = read(folder)
    assert len(boxes) >= 6 + 2 + 3 + len(run.studies) - 1
    for box in boxes:
        told = page.execute_script(
            "const box = arguments[0]; const svg = box.querySelector('.main-svg');"
            "const marks = [...svg.querySelectorAll('.scatterlayer path, .scatterlayer text')].map((mark) => {"
            "  const at = mark.getBoundingClientRect(); const style = getComputedStyle(mark);"
            "  return [at.width + at.height, at.x, mark.getAttribute('d') ?? '', style.stroke + style.fill]; });"
            "return [svg.getBoundingClientRect().width, box.clientWidth, box.clientHeight, marks]",
            drawn(page, box),
        )
        wide, width, height, marks = told
        assert wide == width > 250
        assert height > 150
        across = [x for _, x, *_ in marks]
        assert any(extent > 50 for extent, *_ in marks) or max(across) - min(across) > 50, "lines, or points apart"
        assert not any("NaN" in path or "var(" in colours for *_, path, colours in marks)
    assert len(page.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")) == len(boxes)
    curves = page.execute_script(
        "return document.querySelectorAll('#training .figure')[0].data.map((t) => t.meta.trial)"
    )
    assert set(curves) == {trial.name for trial in run.trials}


def test_figures_wait_until_they_come_into_view(page: webdriver.Chrome) -> None:
    assert page.find_elements(By.CSS_SELECTOR, "#settings .js-plotly-plot") == []
    figure(page, "#settings .panel:not([hidden]) .figure")
    assert len(page.find_elements(By.CSS_SELECTOR, "#settings .js-plotly-plot")) == 1


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


def test_every_sortable_table_puts_the_best_first(page: webdriver.Chrome) -> None:
    tables = page.find_elements(By.CSS_SELECTOR, "table.sortable")
    assert len(tables) == 3
    less = set()
    for table in tables:
        for i, th in enumerate(table.find_elements(By.CSS_SELECTOR, "thead th")):
            if th.get_dom_attribute("class") != "n":
                continue
            page.execute_script("arguments[0].click()", th.find_element(By.TAG_NAME, "button"))
            cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({i + 1})")
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


def test_long_table_shows_its_best_and_then_all(page: webdriver.Chrome, folder: Path) -> None:
    assert len(shown(page, "#trials tbody tr")) == 20
    more = page.find_element(By.CSS_SELECTOR, "#trials .more")
    on(page, more).click(more).perform()
    assert len(shown(page, "#trials tbody tr")) == len(read(folder).trials)


OPACITIES = "return arguments[0].data.map((trace) => [trace.meta.trial, trace.opacity])"


def test_pointer_names_the_trial_and_the_others_step_back(page: webdriver.Chrome, folder: Path) -> None:
    box = figure(page, "#training .figure")
    best = read(folder).best
    assert best
    epochs = len(best.history["macro_f1"])
    before = dict(page.execute_script(OPACITIES, box))
    point_at(page, *place(page, box, epochs - 1, best.history["macro_f1"][-2] or 0))
    told = until_text(page, ".hoverlayer", "epoch")
    assert best.name in told
    assert f"epoch {epochs - 1}: 0." in told
    now = dict(page.execute_script(OPACITIES, box))
    assert now.pop(best.name) == 1
    assert max(now.values()) < 0.2
    point_at(page, 5, 5)
    WebDriverWait(page, 30).until(lambda page: dict(page.execute_script(OPACITIES, box)) == before)


def test_finger_names_the_trial_and_does_not_zoom(browser: webdriver.Chrome, folder: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page = opened(browser, folder / "report.html", width=390)
        box = figure(page, "#training .figure")
        assert page.execute_script("return arguments[0]._fullLayout.dragmode", box) is False
        best = read(folder).best
        assert best
        x, y = place(page, box, 9, best.history["macro_f1"][8] or 0)
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert "epoch 9: 0." in until_text(page, "#training .hoverlayer", "epoch")
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_legend_hides_a_study_in_every_chart(page: webdriver.Chrome) -> None:
    visible = "return arguments[0].data.filter((t) => t.meta?.study === 0 && t.visible).length"
    boxes = [drawn(page, box) for box in shown(page, "#training .figure")]
    assert len(boxes) == 2
    assert all(page.execute_script(visible, box) > 0 for box in boxes)
    button = page.find_element(By.CSS_SELECTOR, ".legend button")
    on(page, button).click(button).perform()
    assert button.get_dom_attribute("aria-pressed") == "false"
    for box in boxes:
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        WebDriverWait(page, 30).until(lambda page, box=box: page.execute_script(visible, box) == 0)
    page.execute_script("document.querySelectorAll('#training .tabs button')[1].click()")
    assert page.execute_script(visible, drawn(page, shown(page, "#training .figure")[0])) == 0


def test_settings_are_filtered_by_boxes_over_axes(page: webdriver.Chrome) -> None:
    box = drawn(page, shown(page, "#settings .figure")[0])
    kept = "#settings .panel:not([hidden]) .kept"
    trials = page.execute_script(
        "return arguments[0].data.filter((t) => t.meta?.trial).map((t) => [t.meta, t.y[0]])", box
    )
    good = {meta["trial"] for meta, height in trials if height > 0.5}
    assert 0 < len(good) < len(trials)
    drag(page, place(page, box, -0.15, 1.02), place(page, box, 0.15, 0.5))
    told = until_text(page, kept, "trials kept")
    assert told == f"{len(good)} of {len(trials)} trials kept Show all"
    opacities = page.execute_script(OPACITIES.replace("data.map", "data.filter((t) => t.meta?.trial).map"), box)
    assert {name for name, opacity in opacities if opacity > 0.5} == good
    named = (
        "return arguments[0]._fullData.filter((t) => t.meta?.trial && t.hoverinfo !== 'skip').map((t) => t.meta.trial)"
    )
    assert set(page.execute_script(named, box)) == good, "what is nearly gone has no name under the pointer"
    colours = page.execute_script("return arguments[0].data.filter((t) => t.meta?.trial).map((t) => t.line.color)", box)
    assert len(set(colours)) > 2, "by score"
    page.find_element(By.CSS_SELECTOR, f"{kept} button").send_keys(Keys.ENTER)
    WebDriverWait(page, 30).until(lambda page: page.find_element(By.CSS_SELECTOR, kept).text == "")


def test_figures_follow_the_theme(page: webdriver.Chrome) -> None:
    ink = "return getComputedStyle(arguments[0].querySelector('.xtick text')).fill"
    box = figure(page, "#training .figure")
    light = page.execute_script(ink, box)
    assert light == "rgb(89, 98, 107)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": dark})
    WebDriverWait(page, 30).until(lambda page: page.execute_script(ink, box) == "rgb(160, 169, 178)")
    ground = page.execute_script(
        "return getComputedStyle(arguments[0].querySelector('.main-svg')).backgroundColor", box
    )
    assert ground == "rgba(0, 0, 0, 0)"


def test_figure_takes_the_width_of_a_turned_phone(page: webdriver.Chrome) -> None:
    box = figure(page, "#training .figure")
    screen = {"width": 800, "height": 400, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    fits = "return arguments[0].querySelector('.main-svg').clientWidth === arguments[0].clientWidth"
    WebDriverWait(page, 30).until(lambda page: box.size["width"] < 800 and page.execute_script(fits, box))


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
    assert len(shown(page, ".panel")) == len(page.find_elements(By.CSS_SELECTOR, ".panel")) > 20
    assert len(shown(page, ".panel-title")) == len(shown(page, ".panel")), "each says of what it is"
    assert len(shown(page, "#trials tbody tr")) == len(read(folder).trials)


def test_printing_draws_every_figure_for_paper(browser: webdriver.Chrome, folder: Path) -> None:
    page = opened(browser, folder / "report.html", theme="dark")
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    told = page.execute_script(
        "return [...document.querySelectorAll('.figure')].map((box) => ["
        "  box.querySelectorAll('.scatterlayer path').length, box.querySelector('.main-svg').clientWidth,"
        "  getComputedStyle(box.querySelector('.xtick text')).fill])"
    )
    assert all(marks > 0 and 250 < width <= 42 * 16 for marks, width, _ in told)
    assert {ink for *_, ink in told} <= {"rgb(89, 98, 107)", "rgb(28, 32, 36)"}, "as on a light page"
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert page.execute_script("return document.documentElement.className") == ""
    assert len(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 100_000
    assert page.get_log("browser") == []


def test_without_scripts_all_is_there_but_the_charts(browser: webdriver.Chrome, folder: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = opened(browser, folder / "report.html")
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
