"""The report's charts in a real browser: they draw, name, filter, and follow theme, width and paper."""

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from emoray.report.run import read
from tests.browser import drag, drawn, figure, on, opened, place, point_at, shown, until_text

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: webdriver.Chrome, hostile_run: Path) -> webdriver.Chrome:
    """The report, opened anew at 1280 pixels in the light theme."""
    return opened(browser, hostile_run / "report.html")


def test_every_figure_draws(page: webdriver.Chrome, hostile_run: Path) -> None:
    page.execute_script("document.querySelectorAll('.panel').forEach((panel) => { panel.hidden = false; })")
    boxes = page.find_elements(By.CSS_SELECTOR, ".figure")
    run = read(hostile_run)
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


OPACITIES = "return arguments[0].data.map((trace) => [trace.meta.trial, trace.opacity])"


def test_pointer_names_the_trial_and_the_others_step_back(page: webdriver.Chrome, hostile_run: Path) -> None:
    box = figure(page, "#training .figure")
    best = read(hostile_run).best
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


def test_finger_names_the_trial_and_does_not_zoom(browser: webdriver.Chrome, hostile_run: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page = opened(browser, hostile_run / "report.html", width=390)
        box = figure(page, "#training .figure")
        assert page.execute_script("return arguments[0]._fullLayout.dragmode", box) is False
        best = read(hostile_run).best
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
    drawn(page, box)  # what stands above it has become longer
    fits = "return arguments[0].querySelector('.main-svg').clientWidth === arguments[0].clientWidth"
    WebDriverWait(page, 30).until(lambda page: box.size["width"] < 800 and page.execute_script(fits, box))


def test_titles_of_axes_fit_a_phone(browser: webdriver.Chrome, hostile_run: Path) -> None:
    page = opened(browser, hostile_run / "report.html", width=390)
    page.execute_script("document.querySelectorAll('.panel').forEach((panel) => { panel.hidden = false; })")
    told = 0
    for box in page.find_elements(By.CSS_SELECTOR, ".figure"):
        titles = page.execute_script(
            "const box = arguments[0]; const all = box.querySelector('.main-svg').getBoundingClientRect();"
            "return [...box.querySelectorAll('.xtitle, .ytitle')].map((title) => {"
            "  const at = title.getBoundingClientRect(); return [title.textContent, at.left - all.left,"
            "  all.right - at.right, at.top - all.top, all.bottom - at.bottom]; })",
            drawn(page, box),
        )
        told += len(titles)
        assert all(min(room) >= -1 for _, *room in titles), titles
    assert told > 10


def test_printing_draws_every_figure_for_paper(browser: webdriver.Chrome, hostile_run: Path) -> None:
    page = opened(browser, hostile_run / "report.html", theme="dark")
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
