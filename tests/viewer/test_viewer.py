"""The widget redraws what its controls say; the still picture stands where there is none."""

import base64
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strokelib import viewer
from strokelib.errors import ParameterError
from strokelib.viewer.panel import NO_HEAT, OWN_WINDOW, value_range

SPEC = importlib.util.spec_from_file_location("viewer_made_scans", Path(__file__).with_name("made_scans.py"))
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)


@pytest.fixture(scope="module")
def case():
    return made.head()


@pytest.fixture
def shown(case):
    scan, other_side = case
    near = np.where(other_side, np.float16(0.7), np.float16(0.1))
    return viewer.show(scan, {"ADN": other_side}, probabilities={"PAPL": near})


def test_a_live_kernel_gets_widget_and_picture_and_the_text_is_the_same_each_time(shown, monkeypatch):
    monkeypatch.delenv(viewer.STATIC, raising=False)
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", viewer.WIDGET_VIEW}
    assert bundle[viewer.WIDGET_VIEW]["model_id"] == shown.panel.box.model_id
    assert bundle["text/plain"] == "made-1: slice 8 of 16; reference, ADN, PAPL"
    json.dumps(bundle)


def test_a_run_without_a_page_gets_the_picture_alone_and_twice_the_same(shown, monkeypatch):
    monkeypatch.setenv(viewer.STATIC, "static")
    one, two = shown._repr_mimebundle_(), shown._repr_mimebundle_()
    assert one == two
    assert set(one) == {"text/plain", "image/png"}
    with Image.open(io.BytesIO(base64.b64decode(one["image/png"]))) as opened:
        assert opened.size[0] == 720
        assert len(np.unique(np.asarray(opened.convert("L")))) > 20
    assert len(one["image/png"]) < 120_000


def test_without_ipywidgets_the_picture_remains_and_the_widget_is_refused_with_what_to_install(shown, monkeypatch):
    monkeypatch.delenv(viewer.STATIC, raising=False)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ipywidgets" else real(name))
    assert set(shown._repr_mimebundle_()) == {"text/plain", "image/png"}
    with pytest.raises(ParameterError, match="ipywidgets"):
        _ = shown.panel


def test_the_still_picture_has_a_key_in_the_colours_of_the_frames(shown):
    figure = shown.figure()
    assert len(figure.axes) == 8
    (legend,) = figure.legends
    found = {text.get_text(): line.get_color() for text, line in zip(legend.texts, legend.get_lines(), strict=True)}
    assert found == dict(shown.scene.colours)
    assert "reference" in figure.axes[0].get_title()
    letters = [[text.get_text() for text in ax.texts] for ax in (figure.axes[0], figure.axes[4])]
    assert letters == [["R", "L"], ["L", "R"]]
    filled = viewer.show(made.ramp(), {"A": made.square()}, mirror=False, style="fill", columns=2).figure()
    assert len(filled.axes) == 2
    assert len(filled.legends[0].get_patches()) == 1


def test_the_still_picture_is_not_known_to_pyplot(shown):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    shown.figure()
    assert plt.get_fignums() == before


def test_a_still_picture_with_a_heat_map_says_what_its_colours_mean(case):
    scan, other_side = case
    heated = viewer.show(scan, probabilities={"PAPL": other_side.astype(float)}, heat="PAPL", mirror="column")
    assert "probability, PAPL" in [ax.get_ylabel() for ax in heated.figure().axes]


def test_moving_the_slider_redraws_the_slice_it_stands_at(shown):
    panel = shown.panel
    assert panel.slice.value == shown.start + 1
    assert panel.image.value == shown.frame()
    panel.slice.value = 3
    assert panel.image.value == shown.frame(2)
    assert "slice 3 of 16, 10 mm" in panel.facts.value


def test_boxes_switch_masks_off_and_on(shown):
    panel = shown.panel
    box, _ = panel.methods["PAPL"]
    box.value = False
    assert panel.image.value == shown.frame(shown=("reference", "ADN"))
    assert "PAPL" not in panel.facts.value
    box.value = True
    assert panel.image.value == shown.frame()
    panel.mirror.value = False
    assert panel.image.value == shown.frame(mirror=False)


def test_a_preset_moves_level_and_width_and_moving_one_of_them_leaves_the_preset(shown):
    panel = shown.panel
    assert panel.preset.value == "brain"
    panel.preset.value = "stroke"
    assert (panel.level.value, panel.width.value) == (35, 40)
    assert panel.image.value == shown.frame(level=35.0, width=40.0)
    panel.level.value = 50
    assert panel.preset.value == OWN_WINDOW
    assert panel.image.value == shown.frame(level=50.0, width=40.0)
    panel.level.value, panel.width.value = 35.1, 40
    assert panel.preset.value == "stroke"
    panel.preset.value = "bone"
    assert (panel.level.value, panel.width.value) == (600, 2800)


def test_style_opacity_threshold_and_heat_map_are_drawn(shown):
    panel = shown.panel
    panel.style.value, panel.opacity.value = "fill", 0.8
    assert panel.image.value == shown.frame(style="fill", opacity=0.8)
    panel.threshold.value = 0.8
    assert panel.image.value == shown.frame(style="fill", opacity=0.8, threshold=0.8)
    assert "PAPL 0.0 cm²" in panel.facts.value
    panel.heat.value = "PAPL"
    assert panel.image.value == shown.frame(style="fill", opacity=0.8, threshold=0.8, heat="PAPL")
    panel.heat.value = NO_HEAT
    assert panel.current().heat == ""


def test_buttons_turn_slices_to_the_ends_and_jump_to_the_largest_lesion(shown):
    panel = shown.panel
    down, up, largest = panel.box.children[0].children[1:]
    for _ in range(40):
        up.click()
    assert panel.slice.value == 16
    down.click()
    assert panel.slice.value == 15
    largest.click()
    assert panel.slice.value == shown.start + 1


def test_each_method_has_a_box_and_a_swatch_of_its_colour(shown):
    panel = shown.panel
    assert list(panel.methods) == ["reference", "ADN", "PAPL"]
    for name, (box, swatch) in panel.methods.items():
        assert box.description == name
        assert shown.scene.colours[name] in swatch.value


def test_names_are_text_and_not_markup():
    mask = {"<b>x</b>": made.square()}
    panel = viewer.show(made.ramp(), mask, title="<i>a</i>").panel
    assert "&lt;b&gt;x" in panel.facts.value
    assert "&lt;i&gt;a" in panel.facts.value
    assert panel.methods["<b>x</b>"][0].description_allow_html is False


def test_a_map_that_is_not_in_hu_has_sliders_over_its_own_values():
    seconds = np.linspace(0, 24, 180).reshape(3, 6, 10)
    level, width = value_range(seconds, "s")
    assert (level[0], level[1], width[1]) == (0, 24, 48)
    panel = viewer.show(seconds, spacing=(5, 1, 1), unit="s", window=(6, 12)).panel
    assert panel.preset.options == (OWN_WINDOW,)
    assert panel.level.max == 24
    constant = value_range(np.full((2, 2, 2), np.nan), "s")
    assert constant[1][0] > 0


def test_a_run_without_a_page_does_not_build_the_widget():
    code = "import sys, numpy as np; from strokelib import viewer; "
    code += "viewer.show(np.zeros((2, 4, 4)), spacing=(5, 1, 1))._repr_mimebundle_(); "
    code += "print('strokelib.viewer.panel' in sys.modules)"
    for said, built in (("static", "False"), ("", "True")):
        environment = os.environ | {viewer.STATIC: said}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert (done.stdout.strip(), done.stderr) == (built, "")
