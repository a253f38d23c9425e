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

from synthetic_run import detailed, dump, scores, sweep, write_run

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
    runs += [folder / "space", folder / "positioning"]
    dump(folder / "nano" / "profile.json", detailed())
    dump(folder / "space" / "sweep.json", sweep())
    dump(folder / "positioning" / "evaluation.json", scores())
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


def test_a_number_tells_kind_range_and_source_by_the_keyboard_alone(driver: Any, address: str) -> None:
    from selenium.webdriver.common.keys import Keys

    visit(driver, address, DESKTOP)
    table = "#main-picture table"
    driver.execute_script("document.querySelector('#main-picture .scroll').focus()")
    tip = "const tip = document.getElementById('tip'); return [tip.hidden, tip.textContent, document.activeElement"
    place = f"{tip}.textContent.trim().replace(/\\s+/g, ' ')];"

    def press(key: str) -> list[Any]:
        driver.switch_to.active_element.send_keys(key)
        return list(driver.execute_script(place))

    hidden, text, number = press(Keys.TAB)
    assert (hidden, number) == (False, "−17.0 dB (−18.5 to −15.5)")
    assert text.startswith("simulated source: profile.json: the artefact in onnxruntime, 50 links a point, seed 0")
    assert text.endswith("low to high −18.5 to −15.5, in the unit shown")
    _, text, number = press(Keys.ARROW_RIGHT)
    assert number == "7.90 mJ (3.76 to 16.6)"
    assert text.startswith("estimated source: gpu_latency.csv refit")
    assert press(Keys.ARROW_DOWN)[2] == "7.60 mJ (3.62 to 16.0)"
    assert press(Keys.HOME)[2] == "−16.0 dB (−18.5 to −15.5)"
    assert press(Keys.ESCAPE)[0] is True
    assert driver.execute_script(f"return document.querySelectorAll('{table} [tabindex=\"0\"]').length") == 1
    press(Keys.TAB)
    assert driver.execute_script(f"return document.querySelector('{table}').contains(document.activeElement)") is False


def test_a_number_tells_it_under_the_pointer_and_without_any_script(driver: Any, address: str) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    visit(driver, address, DESKTOP)
    number = driver.find_element(By.CSS_SELECTOR, "#main-picture .number")
    ActionChains(driver).scroll_to_element(number).move_to_element(number).perform()
    hidden, box = driver.execute_script(
        "const tip = document.getElementById('tip'), b = tip.getBoundingClientRect();"
        "return [tip.hidden, [b.left, b.top, innerWidth - b.right, innerHeight - b.bottom]];"
    )
    assert hidden is False
    assert min(box) >= 0
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(address)
        found = driver.find_element(By.CSS_SELECTOR, "#main-picture .number").get_attribute("title")
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert found.startswith("simulated; low to high −18.5 to −15.5, in the unit shown; source 1: profile.json")


def test_a_script_that_is_not_the_pages_own_does_not_run(driver: Any, address: str, tmp_path: Path) -> None:
    page = Path(address.removeprefix("file://")).read_text()
    (tmp_path / "page.html").write_text(page.replace("<main", "<script>window.evil = 1</script><main", 1))
    driver.get((tmp_path / "page.html").as_uri())
    assert driver.execute_script("return window.evil === undefined && !document.querySelector('.number').title")
    assert "Content Security Policy" in str(driver.get_log("browser"))


def test_landmarks_names_and_contrast_hold_in_both_schemes(driver: Any, address: str) -> None:
    script = """
        const parts = c => c.match(/[\\d.]+/g).map(Number);
        const shine = c => { const [r, g, b] = parts(c).slice(0, 3).map(v => {
            v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const ground = e => {
            const c = e ? getComputedStyle(e).backgroundColor : 'rgb(0, 0, 0)';
            return (parts(c)[3] ?? 1) > 0 ? c : ground(e.parentElement); };
        const poor = [];
        for (const e of document.querySelectorAll('body *:not(svg *):not(script)')) {
            if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
            const [a, b] = [shine(getComputedStyle(e).color), shine(ground(e))];
            if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) poor.push(e.outerHTML.slice(0, 90));
        }
        const unnamed = [...document.querySelectorAll('section, nav, [role=region], svg[role=img]')].filter(
            e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')));
        const unscoped = [...document.querySelectorAll('th')].filter(e => !e.scope);
        const counts = ['header', 'main', 'nav', 'h1', 'a.skip'].map(s => document.querySelectorAll(s).length);
        return [poor, unnamed.length, unscoped.length, counts];"""
    for scheme in ("light", "dark"):
        visit(driver, address, DESKTOP, scheme)
        assert driver.execute_script(script) == [[], 0, 0, [1, 1, 1, 1, 1]]


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
