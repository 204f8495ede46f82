import base64
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_study import write_fake_study
from made_up_pairs import pair_result

from pipeline.report.build import build_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    study = write_fake_study(tmp_path_factory.mktemp("browser"), folds=2, seeds=2, cases=8, size=20)
    build_report(study)
    browser.set_window_size(1280, 900)
    browser.get(study.report.as_uri())
    return browser


def test_the_page_logs_no_error_and_requests_nothing_else(page):
    import json

    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in asked if address.startswith("file:")]) <= 1
    assert page.get_log("browser") == []


def test_a_click_on_a_heading_sorts_the_table_and_a_second_one_turns_it(page):
    heading = "#tables table.sortable thead th:nth-child(2) button"
    click = f"document.querySelector('{heading}').click();"
    read = (
        "const table = document.querySelector('#tables table.sortable');"
        "return [...table.tBodies[0].rows].map(row => Number(row.cells[1].dataset.sort));"
    )
    up = page.execute_script(click + read)
    assert len(up) == 3
    assert up == sorted(up)
    down = page.execute_script(click + read)
    assert down == sorted(up, reverse=True)
    state = page.execute_script(f"return document.querySelector('{heading}').parentElement.ariaSort")
    assert state == "descending"


def test_the_verdict_with_intervals_and_ranks_is_on_the_first_screen(page):
    bottom = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom + window.scrollY"
    assert page.execute_script(bottom, ".hero h1") < 900
    assert page.execute_script(bottom, ".hero .evidence") < 900
    top = "return document.querySelector(arguments[0]).getBoundingClientRect().top + window.scrollY"
    assert page.execute_script(top, "#mean-ranks") > 900


def test_nothing_is_wider_than_a_phone(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_folded_parts_are_printed(page):
    folded = "return document.querySelectorAll('details:not([open])').length"
    assert page.execute_script(folded) > 0
    data = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(data).startswith(b"%PDF")
    assert page.execute_script(folded) == 0


def test_without_scripts_the_tables_and_figures_are_there(browser, page):
    address = page.current_url
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(address)
        from selenium.webdriver.common.by import By

        assert len(page.find_elements(By.CSS_SELECTOR, "#tables table tbody tr")) >= 3
        assert page.find_elements(By.CSS_SELECTOR, "th button") == []
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const texts = [...svg.querySelectorAll("text")].map((item) => [item.textContent, item.getBoundingClientRect()]);
  texts.forEach(([said, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4) found.push(said + " / " + other);
  }));
  const outer = svg.getBoundingClientRect();
  for (const [said, a] of texts)
    if (a.left < outer.left - 8 || a.right > outer.right + 8) found.push("outside: " + said);
}
return found;
"""
"""Texts of one figure that lie on each other, but for the space above and below their letters."""


def test_no_name_lies_on_another_in_figures_of_2_to_12_losses(browser, tmp_path):
    from test_critical_difference import ranked

    from pipeline.report.critical_difference import critical_difference_plot
    from pipeline.report.figures import interval_plot
    from pipeline.report.styles import LossStyle
    from pipeline.report.svg import style_sheet

    figures = []
    for count in range(2, 13):
        for stem in ("weighted_ce_", "l"):
            names = [f"{stem}{i}" for i in range(count)]
            styles = {name: LossStyle(i) for i, name in enumerate(names)}
            figures += [critical_difference_plot(ranked(names, gap=gap), styles) for gap in (0.0, 0.002, 0.02)]
            pairs = [
                pair_result(names[0], name, "hausdorff_mm", -12.3, -45.67, 23.45, margin=0.5) for name in names[1:]
            ]
            figures.append(interval_plot(pairs, "hausdorff_mm", styles))
    css = (Path(__file__).parents[2] / "pipeline/report/templates/report.css").read_text(encoding="utf-8")
    css += style_sheet()
    page = tmp_path / "figures.html"
    cards = "".join(f'<figure class="card" style="width:390px">{figure}</figure>' for figure in figures)
    page.write_text(f"<meta charset=utf-8><style>{css}</style>{cards}", encoding="utf-8")
    browser.get(page.as_uri())
    assert browser.execute_script(OVERLAPS) == []
