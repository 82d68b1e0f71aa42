"""The demo's run in TensorBoard and its report, in a real browser: what people see is there.

Screenshots go to the folder that INFOPLANE_SCREENSHOTS names.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: no browser test")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).parents[1]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
LAYERS = ("conv1", "conv2", "conv3")
EPOCHS = os.environ.get("INFOPLANE_EPOCHS", "2")  # more make better screenshots
SWITCHES = (
    *("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "window-size=1400,1000"),
    *("disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"),
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed"),
    # of the browser's connections, which selenium leaves to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

# TensorBoard's pages are made of nested shadow roots: what they show is the text of all of them.
TEXT = """
function shown(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (['SCRIPT', 'STYLE', 'TEMPLATE'].includes(node.nodeName)) return '';
  const children = [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes];
  return children.map(shown).join(' ');
}
return shown(document.body);
"""
IMAGES = """
function found(node) {
  const own = node.nodeName === 'IMG' && node.naturalWidth > 300 ? [node.naturalWidth] : [];
  const children = [...(node.shadowRoot ? node.shadowRoot.children : []), ...(node.children || [])];
  return own.concat(...children.map(found));
}
return found(document.body);
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log directory of a short demo, as people run it, with what only TensorBoard has."""
    root = tmp_path_factory.mktemp("demo")
    code = (
        "import runpy, sys, lightning_infoplane as p\n"
        "first = p.MatrixRenyiCallback\n"
        "outputs = p.Outputs(tensorboard_layout=True, tensorboard_subruns=True)\n"
        "p.MatrixRenyiCallback = lambda **given: first(outputs=outputs, **given)\n"
        f"sys.argv = ['digits_cnn.py', '--epochs', '{EPOCHS}', '--root', {str(root)!r}]\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'digits_cnn.py')!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=root, env=environment)
    (table,) = root.rglob("infoplane.csv")
    return table.parent


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    """The report of the run, by the command."""
    command = [sys.executable, "-m", "lightning_infoplane", "report", str(run)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def tensorboard(run: Path) -> Iterator[str]:
    """The address of a TensorBoard on this run."""
    program = find_spec("tensorboard.default")
    if program and "import pkg_resources" in Path(str(program.origin)).read_text() and not find_spec("pkg_resources"):
        pytest.skip("this TensorBoard's server needs pkg_resources, which current setuptools no longer have")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--logdir", str(run.parent), "--reload_interval", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for(lambda: "AMI_XT/conv3" in answer(f"{address}data/plugin/scalars/tags"), "TensorBoard to read the run")
        yield address
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium, without a window, a profile or any word to the world."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for switch in (*SWITCHES, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{switch}")
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def keep(browser: webdriver.Chrome, tmp_path: Path) -> Callable[[str], None]:
    """Save what the browser shows."""
    folder = Path(os.environ.get("INFOPLANE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: browser.save_screenshot(str(folder / f"{name}.png")) and None


def answer(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=5) as page:
            return str(page.read().decode())
    except OSError:  # it has not opened its door yet
        return ""


def wait_for(done: Callable[[], Any], what: str, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.25)


def open_page(browser: webdriver.Chrome, address: str, width: int = 1400, height: int = 1000) -> None:
    """A new page: TensorBoard does not leave the one it is on for another fragment of the same address."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    browser.get(address)


def wait_for_words(browser: webdriver.Chrome, *words: str) -> str:
    text = ""

    def there() -> bool:
        nonlocal text
        text = re.sub(r"\s+", " ", browser.execute_script(TEXT)).replace(" /", "/")  # a tag is in two pieces
        return all(word in text for word in words)

    try:
        wait_for(there, f"{words} on the page")
    except AssertionError as error:
        raise AssertionError(f"{[word for word in words if word not in text]} are not in {text[:3000]}") from error
    return text


def wait_for_pictures(browser: webdriver.Chrome, count: int) -> None:
    wait_for(lambda: len(browser.execute_script(IMAGES)) >= count, f"{count} pictures on the page")


def test_scalars_are_in_tensorboard(browser: webdriver.Chrome, tensorboard: str, keep: Callable[[str], None]) -> None:
    open_page(browser, f"{tensorboard}?tagFilter=%5EAMI_(XT%7CTY)%2F#timeseries")
    wait_for_words(browser, *(f"{key}/{layer}" for key in ("AMI_XT", "AMI_TY") for layer in LAYERS))
    time.sleep(1)  # the lines are drawn on a canvas
    keep("tensorboard_scalars")


def test_each_layer_has_a_colour_of_its_own_in_its_sub_run(
    browser: webdriver.Chrome, tensorboard: str, keep: Callable[[str], None]
) -> None:
    open_page(browser, f"{tensorboard}?tagFilter=%5EAMI_(XT%7CTY)%24#timeseries")
    wait_for_words(browser, "version_0/conv1", "version_0/conv3", "AMI_XT", "AMI_TY")
    time.sleep(1)
    keep("tensorboard_subruns")


def test_pictures_are_in_tensorboard(browser: webdriver.Chrome, tensorboard: str, keep: Callable[[str], None]) -> None:
    open_page(browser, f"{tensorboard}#images")
    wait_for_words(browser, "infoplane/plane", "infoplane/depth", "step")
    wait_for_pictures(browser, 2)
    keep("tensorboard_images")


def test_all_layers_share_a_chart_in_the_layout(
    browser: webdriver.Chrome, tensorboard: str, keep: Callable[[str], None]
) -> None:
    open_page(browser, f"{tensorboard}#custom_scalars")
    wait_for_words(
        browser,
        "information plane",
        "adjusted information about the input, AMI(X;T)",
        "adjusted information about the target, AMI(T;Y)",
    )
    time.sleep(1)
    keep("tensorboard_custom_scalars")


def test_the_card_is_in_tensorboard(browser: webdriver.Chrome, tensorboard: str, keep: Callable[[str], None]) -> None:
    open_page(browser, f"{tensorboard}#text")
    wait_for_words(
        browser, "infoplane/card", "what a layer shares with the input", "MedianDistance", "verdict", "conv3"
    )
    keep("tensorboard_text")


@pytest.mark.parametrize(("device", "width", "height"), [("report", 1100, 1400), ("report_phone", 375, 812)])
def test_the_report_opens_from_disk(
    browser: webdriver.Chrome, report: Path, keep: Callable[[str], None], device: str, width: int, height: int
) -> None:
    assert report.stat().st_size < 3_000_000
    open_page(browser, report.as_uri(), width, height)
    wait_for_words(browser, "What the layers know", "In short", "conv3", "How to read this", "MedianDistance", "Markov")
    wait_for_pictures(browser, 6)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width  # nobody scrolls sideways
    assert browser.execute_script("return [...document.images].every(image => image.alt.length > 40)")
    assert browser.execute_script(
        "return performance.getEntriesByType('resource').every(e => e.name.startsWith('data:'))"
    )
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    keep(device)
