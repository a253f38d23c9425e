"""The report as a reader meets it, in headless Chromium: wide and narrow, light and dark, and on paper."""

from __future__ import annotations

import base64
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "profiles"))

from synthetic_run import write_run

from spikeport_profiles.report import report

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "hide-scrollbars",
)  # fmt: skip
DESKTOP, PHONE = 1280, 390

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'spikeport[dev]'")
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    browser.set_page_load_timeout(300)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pages")
    runs = [write_run(folder / "nano"), write_run(folder / "ilif", "spikewfm-nano-ilif", -0.5)]
    return report(runs, folder / "out").html.as_uri()


def visit(driver: Any, address: str, width: int, scheme: str = "light") -> None:
    """Load the page at a width and colour scheme, with everything that folds open."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(address)
    driver.execute_script("document.querySelectorAll('details').forEach(each => { each.open = true; })")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_console_messages_and_does_not_overflow(
    driver: Any, address: str, width: int, scheme: str
) -> None:
    visit(driver, address, width, scheme)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_page_requests_nothing_but_itself(driver: Any, address: str) -> None:
    driver.get_log("performance")
    visit(driver, address, DESKTOP)
    sent = [entry["message"] for entry in driver.get_log("performance") if 'requestWillBeSent"' in entry["message"]]
    assert sent
    assert not [message for message in sent if '"url":"http' in message]


def test_dark_mode_turns_page_and_plots_dark(driver: Any, address: str) -> None:
    shades = []
    for scheme in ("light", "dark"):
        visit(driver, address, DESKTOP, scheme)
        script = """
            const light = c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3;
            const text = [...document.querySelectorAll('svg.plot text')].map(t => light(getComputedStyle(t).fill));
            return [light(getComputedStyle(document.body).backgroundColor), Math.min(...text), Math.max(...text)];"""
        shades.append(driver.execute_script(script))
    (light_page, _, darkest_ink), (dark_page, lightest_ink, _) = shades
    assert light_page > 240
    assert darkest_ink < 130
    assert dark_page < 40
    assert lightest_ink > 130


def test_plots_keep_readable_text_on_a_phone_and_within_the_page(driver: Any, address: str) -> None:
    visit(driver, address, PHONE)
    script = """
        return [...document.querySelectorAll('svg.plot')].map(plot => {
            const box = plot.getBoundingClientRect();
            const texts = [...plot.querySelectorAll('text')].map(t => t.getBoundingClientRect());
            const scale = box.width / plot.viewBox.baseVal.width;
            const sizes = [...plot.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * scale);
            return [Math.min(...sizes), Math.min(...texts.map(t => t.left)), Math.max(...texts.map(t => t.right))];
        });"""
    for smallest, left, right in driver.execute_script(script):
        assert smallest >= 9
        assert left >= 0
        assert right <= PHONE


def test_tables_wider_than_a_phone_scroll_and_can_take_the_focus(driver: Any, address: str) -> None:
    visit(driver, address, PHONE)
    script = """
        return [...document.querySelectorAll('table')].filter(t => {
            const box = t.closest('.scroll');
            return t.scrollWidth > innerWidth && !(box && box.tabIndex === 0 && box.getAttribute('aria-label'));
        }).length;"""
    assert driver.execute_script(script) == 0


def test_the_page_prints_with_its_folded_tables(driver: Any, address: str) -> None:
    visit(driver, address, DESKTOP)
    driver.execute_script("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        script = (
            "return [...document.querySelectorAll('details table')].every(t => t.getBoundingClientRect().height > 0)"
        )
        assert driver.execute_script(script)
        printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
