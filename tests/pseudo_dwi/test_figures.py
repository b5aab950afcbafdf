import dataclasses

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from strokelib import manifest, plotting
from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError, ParameterError
from strokelib.figures.perfusion import SCALES
from strokelib.metrics import dice
from strokelib.pseudo_dwi import figures
from strokelib.pseudo_dwi.examples import BolusExample, PerfusionExample, SliceExample
from strokelib.pseudo_dwi.sampling import bolus_window, network_inputs, sampled_frames

mpl.use("Agg")
SHAPE = (3, 32, 26)
STEP_S = 1.5


@pytest.fixture(scope="module")
def scan():
    """A brain whose series rises and falls, and a lesion that is largest in slice 1."""
    rng = np.random.default_rng(0)
    brain, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[:, 3:29, 3:23] = True
    lesion[0, 10:12, 10:12] = lesion[1, 10:18, 8:14] = True
    bolus = np.concatenate([np.zeros(6), np.linspace(0, 20, 9), np.linspace(18, 4, 12), np.full(3, 4.0)])
    series = 35 + bolus[:, None, None, None] * brain + rng.normal(0, 0.3, (len(bolus), *SHAPE))
    maps = {name: rng.uniform(1, top, SHAPE).astype(np.float32) for name, (_, top) in SCALES.items()}
    channels = maps | {"series": series, "dwi": 1 + 2.0 * lesion + rng.normal(0, 0.05, SHAPE)}
    image = Volume(np.zeros(SHAPE), np.diag([-2.0, -2.0, 5.0, 1.0]))
    return Case("a", "p", "isles2018", "test", image, lesion, brain, {}, {"step_s": STEP_S}, True, channels)


def _rows(number):
    return list(dict.fromkeys(manifest.published("pseudo_dwi", number)["method"]))


def _example(scan, number, images=False, name="scan"):
    case, rows = network_inputs(scan), _rows(number)
    found = {row: np.roll(0.9 * case.lesion, n, axis=2) for n, row in enumerate(rows)}
    made = {row: np.full(SHAPE, 0.1 * n) for n, row in enumerate(rows) if row != "Real DWI"} if images else None
    return SliceExample.of(case, found, made, name)


def _titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def _notes(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_every_printed_row_has_a_label_that_can_be_drawn():
    printed = {row for number in range(1, 6) for row in _rows(number)}
    assert set(figures.LABELS) == printed
    assert len(set(figures.LABELS.values())) == len(printed)
    parser = mpl.mathtext.MathTextParser("agg")
    for label in figures.LABELS.values():
        assert parser.parse(label).width > 0


def test_every_maker_of_the_ledger_that_draws_for_this_paper_exists():
    ledger = manifest.artefacts()
    makers = ledger.loc[(ledger["paper"] == "pseudo_dwi") & (ledger["kind"] == "figure"), "maker"]
    names = [maker.rsplit(".", 1)[1] for maker in makers]
    assert len(names) == 10
    assert [name for name in names if not callable(getattr(figures, name, None))] == []


def test_figure_1_has_two_frames_four_maps_and_the_dwi_with_the_lesion_in_a_row(scan):
    example = PerfusionExample.of(scan, "patient 1")
    figure = figures.fig01_perfusion_examples([example, dataclasses.replace(example, name="patient 2")])
    pictures, bars = figure.axes[:14], figure.axes[14:]
    assert [ax.get_title().split("\n")[0] for ax in pictures[2:7]] == ["CBF", "CBV", "MTT", "Tmax", "DWI"]
    assert len(bars) == 6
    assert [bar.get_xlim()[1] for bar in bars[2:]] == [top for _, top in SCALES.values()]
    start = bolus_window(scan.channels["series"][:, scan.brain].sum(axis=1)).start
    assert _notes(figure)[:2] == [f"{start * STEP_S:.0f} s", f"{14 * STEP_S:.0f} s"]
    assert [len(ax.collections) for ax in pictures] == [0, 0, 0, 0, 0, 0, 1] * 2
    shown = pictures[2].images[0].get_array()
    np.testing.assert_array_equal(shown.mask, ~scan.brain[1])
    np.testing.assert_allclose(shown.compressed(), scan.channels["cbf"][1][scan.brain[1]])
    assert [text.get_text() for text in figure.texts] == ["patient 1", "patient 2"]


def test_figure_3_marks_the_window_and_the_six_frames_at_their_times(scan):
    example = BolusExample.of(scan, "scan a")
    figure = figures.fig03_bolus_window([example, example])
    upper, lower = figure.axes[0], figure.axes[2]
    window = bolus_window(scan.channels["series"][:, scan.brain].sum(axis=1))
    marks = [line.get_xdata()[0] for line in lower.lines if line.get_linestyle() == "--"]
    assert marks == pytest.approx([window.start * STEP_S, window.end * STEP_S])
    assert _notes(figure)[:2] == ["$T_s$", "$T_e$"]
    (ticks,) = [line for line in upper.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(ticks.get_xdata(), sampled_frames(window) * STEP_S)
    np.testing.assert_allclose(upper.lines[0].get_ydata().max(), 20, atol=0.2)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), np.gradient(upper.lines[0].get_ydata()), atol=1e-9)


def test_figure_3_says_where_all_frames_were_taken(scan):
    flat = dataclasses.replace(scan, channels=scan.channels | {"series": np.full((12, *SHAPE), 35.0)})
    figure = figures.fig03_bolus_window([BolusExample.of(flat, "flat")])
    assert figure.axes[0].get_title() == "flat, all frames"


def test_figure_6_shows_maps_and_target_seven_images_and_seven_segmentations_with_their_dice(scan):
    example = _example(scan, 1, images=True)
    figure = figures.fig06_synthesis_losses(example)
    assert len(figure.axes) == 5 + 7 + 7
    labels = [figures.LABELS[row] for row in _rows(1)]
    assert _titles(figure) == ["CBF", "CBV", "MTT", "Tmax", "real DWI", *labels]
    for number, ax in enumerate(figure.axes[5:12]):
        np.testing.assert_allclose(ax.images[0].get_array(), 0.1 * number, atol=1e-6)
        assert len(ax.collections) == 0
    wanted = [dice(np.roll(scan.lesion, n, axis=2), scan.lesion) for n in range(7)]
    assert _notes(figure) == [f"Dice {value:.2f}" for value in wanted]
    assert wanted[0] == 1 > wanted[1]
    for ax in figure.axes[12:]:
        np.testing.assert_array_equal(ax.images[0].get_array(), example.image)
        colours = [mpl.colors.to_hex(c.get_edgecolor()[0]).upper() for c in ax.collections]
        assert colours == [plotting.TRUTH_COLOUR, plotting.PREDICTION_COLOUR]


def test_figure_7_shows_the_real_dwi_in_place_of_a_made_one_and_its_segmentation(scan):
    example = _example(scan, 2, images=True)
    figure = figures.fig07_synthesis_inputs(example)
    assert len(figure.axes) == 10
    np.testing.assert_array_equal(figure.axes[4].images[0].get_array(), example.image)
    assert len(_notes(figure)) == 5


@pytest.mark.parametrize(
    ("draw", "number", "columns"), [(figures.fig08_segmenters, 3, 7), (figures.fig09_segmentation_inputs, 5, 8)]
)
def test_figures_8_and_9_have_a_row_a_slice_and_a_column_a_table_row(scan, draw, number, columns):
    figure = draw([_example(scan, number, name=name) for name in ("scan a", "scan b")])
    assert len(figure.axes) == 2 * columns
    assert _titles(figure) == [figures.LABELS[row] for row in _rows(number)]
    assert [text.get_text() for text in figure.texts] == ["scan a", "scan b"]
    assert all(len(ax.collections) == 2 for ax in figure.axes)


def test_a_slice_is_the_one_with_most_lesion_and_cbf_stands_in_for_a_dwi_that_nobody_has(scan):
    lacking = {name: values for name, values in scan.channels.items() if name != "dwi"}
    case = network_inputs(dataclasses.replace(scan, channels=lacking))
    example = SliceExample.of(case, {"FCN": scan.lesion.astype(float)})
    np.testing.assert_array_equal(example.lesion, scan.lesion[1])
    np.testing.assert_array_equal(example.image, case.channels["maps"][0, 1])
    assert example.dice == {"FCN": 1.0}


def test_what_cannot_be_drawn_is_refused(scan):
    with pytest.raises(DataError, match="no reference"):
        PerfusionExample.of(dataclasses.replace(scan, lesion=None), "x")
    one = _example(scan, 1, images=True)
    with pytest.raises(DataError, match="wanted L2"):
        figures.fig06_synthesis_losses(dataclasses.replace(one, synthetic={"L1": one.synthetic["L1"]}))
    for examples in ([], [one, _example(scan, 3)]):
        with pytest.raises(DataError, match="slices of a figure"):
            figures.fig08_segmenters(examples)
    with pytest.raises(ParameterError, match="'GANs'"):
        figures.fig08_segmenters([SliceExample.of(network_inputs(scan), {"GANs": scan.lesion})])


def _volume_scores(values):
    rows = []
    for method, of_scans in values.items():
        for number, (volume, found, error) in enumerate(of_scans):
            names = {"truth_volume_ml": volume, "dice": found, "relative_volume_error": error}
            rows += [(method, f"scan-{number}", name, value) for name, value in names.items()]
    return pd.DataFrame(rows, columns=["method", "case", "metric", "value"])


def test_figure_10_has_a_box_an_input_and_group_and_a_dot_a_scan():
    scans = [(5.0, 0.2, 3.0), (9.0, 0.4, 0.5), (10.0, 0.6, 0.2), (50.0, 0.7, np.nan), (120.0, 0.8, 0.1)]
    figure = figures.fig10_volume_groups(_volume_scores({"F_o": scans, "DWI^{o,l,h}": scans, "CTA (I*)": scans}))
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["<10 mL\nn = 2", "10-50 mL\nn = 2", ">50 mL\nn = 1"]
    assert (len(left.patches), len(right.patches)) == (6, 6)
    dots = [line.get_ydata() for line in left.lines if line.get_marker() == "o"]
    assert [list(part) for part in dots[:3]] == [pytest.approx([20, 40]), pytest.approx([60, 70]), pytest.approx([80])]
    errors = [line.get_ydata() for line in right.lines if line.get_marker() == "o"]
    assert sum(map(len, errors)) == 2 * 4
    assert right.get_ylim()[1] > 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["$F_o$", "DWI$^{o,l,h}$"]


def test_figure_10_without_any_of_its_inputs_is_refused():
    with pytest.raises(ParameterError, match="found none"):
        figures.fig10_volume_groups(_volume_scores({"CTA (I*)": [(5.0, 0.2, 3.0)]}))
