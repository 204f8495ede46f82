import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tracking"))
from small_study import DICE, LOSSES, whole_study

from pipeline.errors import ConfigError
from pipeline.tracking.restricted_app import is_blocked
from pipeline.tracking.server import choose_port

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Run `whichloss ui` on a small study; addresses of its pages."""
    study = whole_study(tmp_path_factory.mktemp("ui") / "study")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "pipeline", "ui", str(study.root), "--no-browser", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    text = ""
    try:
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, "whichloss ui ended"
            text += line
        yield json.loads(text)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def status_of(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="is taken"):
            choose_port(taken.getsockname()[1])


def test_the_next_port_is_used_where_5000_is_taken(monkeypatch):
    free = iter((False, False, True))
    monkeypatch.setattr("pipeline.tracking.server._is_free", lambda port: next(free))
    assert choose_port(None) == 5002


@pytest.mark.parametrize(
    ("path", "blocked"),
    [
        ("/ajax-api/3.0/mlflow/assistant/config", True),
        ("/gateway/x/mlflow/invocations", True),
        ("/ajax-api/3.0/jobs/search", True),
        ("/ajax-api/2.0/mlflow/runs/search", False),
        ("/get-artifact", False),
        ("/", False),
    ],
)
def test_services_that_act_for_visitors_are_blocked(path, blocked):
    assert is_blocked(path) is blocked


def test_the_server_is_on_loopback_and_answers_no_foreign_host_nor_assistant(pages):
    address = pages["address"]
    assert address.startswith("http://127.0.0.1:")
    assert status_of(f"{address}/health") == 200
    assert status_of(f"{address}/ajax-api/3.0/mlflow/assistant/config") == 404
    assert status_of(f"{address}/ajax-api/2.0/mlflow/experiments/get?experiment_id=1", Host="evil.example") == 403
    port = int(address.rsplit(":", 1)[1])
    others = [entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)]
    for other in {host for host in others if not host.startswith("127.")}:
        with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
            socket.create_connection((other, port), timeout=2)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        pytest.skip("no Chromium with its driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1600"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


def text_with(browser, address, *expected, within_s=30.0):
    """Open an address and return the page's text once it holds what is expected."""
    browser.get("about:blank")
    browser.get(address)
    until = time.monotonic() + within_s
    text = ""
    while time.monotonic() < until:
        text = browser.find_element("tag name", "body").text
        if all(piece in text for piece in expected):
            return text
        time.sleep(0.3)
    raise AssertionError(f"{[piece for piece in expected if piece not in text]} not on the page: {text[:1500]}")


@pytest.mark.browser
def test_the_runs_table_shows_dice_and_hausdorff_of_each_loss(pages, browser):
    text_with(browser, pages["runs_page"], "Run Name", "dice", "hausdorff_mm", "hausdorff95_mm", *LOSSES)
    cells = browser.execute_script(
        "return [...document.querySelectorAll('[role=gridcell]')].map(cell => "
        "[cell.closest('[row-index]').getAttribute('row-index'), cell.getAttribute('col-id'), cell.textContent])"
    )
    shown = {}
    for loss in LOSSES:
        (index,) = {row for row, column, text in cells if column == "attributes.`Run Name`" and text.endswith(loss)}
        shown[loss] = {column: text.strip() for row, column, text in cells if row == index}
    assert set(shown) == set(LOSSES)
    for loss, row in shown.items():
        assert float(row["metrics.`dice`"][:6]) == pytest.approx(DICE[loss], abs=1e-3)
        assert float(row["metrics.`hausdorff_mm`"]) == pytest.approx(4.5)
        assert float(row["metrics.`hausdorff95_mm`"]) == pytest.approx(2.0)
    columns = browser.execute_script(
        "return [...document.querySelectorAll('[role=columnheader][col-id^=\"metrics.\"]')]"
        ".map(head => [head.getBoundingClientRect().x, head.getAttribute('col-id')])"
        ".sort((a, b) => a[0] - b[0]).map(pair => pair[1])"
    )
    assert columns[:2] == ["metrics.`dice`", "metrics.`hausdorff_mm`"]


@pytest.mark.browser
def test_the_compare_page_shows_dice_and_hausdorff_of_each_loss(pages, browser):
    text = text_with(browser, pages["compare_page"], "Comparing 2 Runs", "Metrics", *LOSSES, "hausdorff_mm")
    for metric in ("dice", "hausdorff_mm", "hausdorff95_mm"):
        assert metric in text.splitlines()
    assert {f"{DICE[loss]:g}" for loss in LOSSES} | {"4.5", "2"} <= set(text.splitlines())


@pytest.mark.browser
def test_the_assistant_does_not_cover_the_page(pages, browser):
    assert "Ask questions about" not in text_with(browser, pages["runs_page"], "Run Name", *LOSSES)
