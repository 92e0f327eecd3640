"""Headless Chromium for the tests of the report, and what a reader does with a page."""

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

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


def chrome(profile: Path) -> webdriver.Chrome:
    """Chromium without a window; skips the test where it, or its driver, is not installed."""
    binary = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, Service(driver))


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


def on(page: webdriver.Chrome, element: WebElement) -> ActionChains:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return ActionChains(page)
