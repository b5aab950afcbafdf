"""The slice viewer in JupyterLab: a real server, a real kernel, and a browser that moves the controls."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import nbformat.reader
import pytest

from strokelib import processes, publish

STARTS_WITHIN_S = 180
SHOWN_WITHIN_MS = 90_000
SOURCE = """import numpy as np
from strokelib import viewer
from strokelib.data.cases import Case, Volume

z, y, x = np.indices((12, 80, 64))
brain = ((x - 31.5) / 26) ** 2 + ((y - 39.5) / 34) ** 2 + ((z - 5.5) / 7) ** 2 < 1
lesion = (x - 44) ** 2 + (y - 40) ** 2 + (2 * (z - 6)) ** 2 < 60
image = Volume(np.where(brain, 34.0 - 8 * lesion, -1000.0), np.diag([-2.5, -2.5, 5.0, 1.0]))
case = Case("made-1", "made", "aisd", "test", image, lesion=lesion, brain=brain)
viewer.show(case, probabilities={"PAPL": 0.8 * np.roll(lesion, 3, axis=2)}, mirror="column")
"""
# The picture as the page holds it: its size, a digest of its pixels, and how many are of a mask's colour. Null while
# the page is still loading it: a new picture first stands there without a width.
READ_PICTURE = """image => {
  if (!(image.complete && image.naturalWidth > 0)) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let [digest, orange, blue] = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) {
    digest = (digest * 31 + data[i] + 7 * data[i + 1] + 49 * data[i + 2]) % 4294967296;
    orange += data[i] === 230 && data[i + 1] === 159 && data[i + 2] === 0;
    blue += data[i] === 86 && data[i + 1] === 180 && data[i + 2] === 233;
  }
  return {width: canvas.width, height: canvas.height, digest, orange, blue};
}"""
PICTURE = ".strokelib-viewer img.widget-image"


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _environment(folder):
    """JupyterLab of this environment, with all that it would write in ``folder``; a viewer that may be a widget."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in ("STROKELIB_VIEWER", "JUPYTER_PATH")}
    own = {name: str(folder / name.lower()) for name in (*names, "JUPYTERLAB_WORKSPACES_DIR")}
    return kept | own | {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address and token of a JupyterLab whose root folder holds one notebook."""
    pytest.importorskip("jupyterlab")
    root, folder = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("jupyter")
    cell = nbformat.v4.new_code_cell(SOURCE, id="viewer")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": publish.KERNELSPEC}), root / "v.ipynb"
    )
    port, token = _free_port(), secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", f"--IdentityProvider.token={token}"]
    options += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
    options += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    options += ["--LabApp.extension_manager=readonly"]
    log = folder / "log.txt"
    with log.open("w") as output, processes.guarded(f"jupyterlab-{os.getpid()}-{port}") as environment:
        command = [sys.executable, "-m", "jupyterlab", *options]
        env = environment | _environment(folder)
        server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            address, begun = f"http://127.0.0.1:{port}", time.monotonic()
            while not _answers(f"{address}/api?token={token}"):
                waited = time.monotonic() - begun
                assert server.poll() is None, log.read_text()
                assert waited < STARTS_WITHIN_S, log.read_text()
                time.sleep(0.2)
            yield address, token, root
        finally:
            server.kill()  # kernels carry the mark and end with the block
            server.wait(timeout=20)


def _seen(page, different_from=None):
    """The picture shown; waits until it differs from another one."""
    picture = page.locator(PICTURE)
    deadline = time.monotonic() + 60
    while True:
        found = picture.evaluate(READ_PICTURE)
        if found and found != different_from:
            return found
        assert time.monotonic() < deadline, f"the picture did not change: {found}"
        page.wait_for_timeout(50)


def _run_the_cell(page):
    """Run the one cell; once more where the page was not yet connected to its kernel and dropped the first order."""
    begun = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[*1]\]"))
    for _ in range(8):
        page.locator(".jp-CodeCell .jp-InputArea-editor").click()
        page.keyboard.press("Control+Enter")
        for _ in range(50):
            if begun.count():
                return
            page.wait_for_timeout(100)
    pytest.fail("JupyterLab did not run the cell")


def test_in_jupyterlab_the_controls_change_the_picture_and_the_saved_notebook_keeps_a_still_one(tab, lab):
    address, token, root = lab
    page = tab.page
    page.goto(f"{address}/doc/tree/v.ipynb?token={token}")
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=SHOWN_WITHIN_MS)
    _run_the_cell(page)
    page.locator(PICTURE).wait_for(timeout=SHOWN_WITHIN_MS)

    first = _seen(page)
    assert first["orange"] > 50
    assert first["blue"] > 50
    assert first["height"] == 400
    window = page.locator(".strokelib-viewer .widget-dropdown", has_text="window").locator("select")
    assert window.input_value() == "brain"

    row = page.locator(".strokelib-viewer .widget-slider", has_text="slice")
    row.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    second = _seen(page, first)
    page.locator(".strokelib-viewer small", has_text="slice 8 of 12").wait_for()

    page.locator(".strokelib-viewer .widget-checkbox", has_text="reference").locator("input").click()
    third = _seen(page, second)
    assert third["orange"] == 0
    assert third["blue"] == second["blue"]

    page.locator(".strokelib-viewer .widget-checkbox", has_text="mirror").locator("input").click()
    assert _seen(page, third)["width"] < 0.6 * third["width"]
    page.locator(".strokelib-viewer button", has_text="largest").click()
    page.locator(".strokelib-viewer small", has_text="slice 7 of 12").wait_for()

    page.keyboard.press("Control+s")
    _saved_keeps_a_still_picture(page, root / "v.ipynb")
    assert tab.foreign == []
    assert tab.errors() == []


def _saved(path: Path):
    """The notebook as JupyterLab saved it with outputs, or None while it is being written."""
    try:
        found = nbformat.reads(path.read_text("utf-8"), as_version=4)
    except nbformat.reader.NotJSONError:
        return None
    return found if found.cells[0].outputs else None


def _saved_keeps_a_still_picture(page, path: Path):
    deadline = time.monotonic() + 60
    while (saved := _saved(path)) is None:
        assert time.monotonic() < deadline, "JupyterLab did not save the notebook"
        page.wait_for_timeout(100)
    (output,) = saved.cells[0].outputs
    assert set(output.data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    (kept,) = publish.cleaned(saved, "v").cells[0].outputs
    assert set(kept.data) == {"text/plain", "image/png"}
    assert len(json.dumps(kept)) < 100_000
