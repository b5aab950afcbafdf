import dataclasses

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

from strokelib import manifest, plotting, settings
from strokelib.adn import figures, tables
from strokelib.adn.block_diagrams import PipelineExample
from strokelib.adn.examples import AlignedExample, ContourExample
from strokelib.adn.model import (
    ADN,
    Disentangled,
    Transformer3D,
    compensate_intrinsic,
    intrinsic_asymmetry,
    total_asymmetry,
)
from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError
from strokelib.metrics import dice
from strokelib.stats import bootstrap_ci

mpl.use("Agg")
RUN = settings.resolve("demo", "aisd", 0)
SHAPE, SPACING = (3, 40, 32), (5.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def masks():
    """A brain, a lesion at the picture's left that is largest in slice 1."""
    brain, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[:, 3:37, 4:28] = True
    lesion[0, 10:12, 8:10] = lesion[1, 10:16, 7:12] = True
    return brain, lesion


@pytest.fixture(scope="module")
def volumes(masks):
    """X with a dark lesion and a dark spot elsewhere, and what a made-up ADN says of it."""
    brain, lesion = masks
    image = 0.35 * brain.astype(np.float32)
    image[lesion] -= 0.1
    image[:, 28:33, 20:25] -= 0.05
    aligned = torch.from_numpy(image)[None, None]
    total = total_asymmetry(aligned)
    pathological = 0.05 + 0.2 * torch.from_numpy(lesion.astype(np.float32))[None, None]
    intrinsic = intrinsic_asymmetry(total, pathological)
    logits = torch.where(torch.from_numpy(np.roll(lesion, 1, axis=2)), 3.0, -3.0)[None, None]
    return aligned, Disentangled(total, pathological, intrinsic, compensate_intrinsic(aligned, intrinsic), logits)


@pytest.fixture(scope="module")
def example(masks, volumes):
    brain, lesion = masks
    truth = np.where(lesion, 0.1, np.where(brain, -0.01, 0))
    return AlignedExample.of(*volumes, lesion, brain, SPACING, "head", truth)


@pytest.fixture(scope="module")
def case(masks):
    brain, lesion = masks
    image = Volume(np.where(brain, 35.0, -1000.0), np.diag([-4.0, -4.0, 5.0, 1.0]))
    return Case("a", "p", "aisd", "test", image, lesion, brain)


def _titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def _said(figure):
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


def _notes(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_every_maker_of_the_ledger_that_draws_for_this_paper_exists():
    ledger = manifest.artefacts()
    makers = ledger.loc[ledger["paper"] == "adn", "maker"]
    found = [maker.rsplit(".", 2)[1:] for maker in makers]
    assert len(found) == 5
    modules = {"figures": figures, "tables": tables}
    assert [name for module, name in found if not callable(getattr(modules[module], name, None))] == []


def test_every_row_of_table_1_has_a_title_that_can_be_drawn():
    assert list(figures.LABELS) == list(tables.ROWS)
    parser = mpl.mathtext.MathTextParser("agg")
    for label in figures.LABELS.values():
        for line in label.split("\n"):
            assert parser.parse(line).width > 0


def test_an_example_is_the_slice_with_most_lesion_and_the_sums_are_of_the_whole_scan(example, volumes, masks):
    brain, lesion = masks
    aligned, _ = volumes
    np.testing.assert_array_equal(example.image, aligned[0, 0, 1])
    np.testing.assert_array_equal(example.lesion, lesion[1])
    np.testing.assert_array_equal(example.mirrored, example.image[:, ::-1])
    np.testing.assert_array_equal(example.predicted, np.roll(lesion[1], 1, axis=1))
    voxel_ml = 5 * 4 * 4 / 1000
    inside, outside = example.sums_ml["pathological"]
    assert inside == pytest.approx(0.25 * lesion.sum() * voxel_ml, rel=1e-5)
    assert outside == pytest.approx(0.05 * (brain & ~lesion).sum() * voxel_ml, rel=1e-5)
    assert example.sums_ml["total"] == pytest.approx((0.1 * lesion.sum() * voxel_ml, 0.05 * 75 * voxel_ml), rel=1e-4)
    filled = np.minimum(example.image + example.pathological, np.maximum(example.image, example.mirrored))
    np.testing.assert_allclose(example.pathology_filled, filled, atol=1e-6)
    assert example.spacing_yx == (4.0, 4.0)


def test_an_example_without_lesion_or_of_other_shapes_is_refused(volumes, masks):
    brain, lesion = masks
    with pytest.raises(DataError, match="wanted some lesion"):
        AlignedExample.of(*volumes, np.zeros(SHAPE), brain, SPACING, "head")
    with pytest.raises(DataError, match="brain of head"):
        AlignedExample.of(*volumes, lesion, brain[1:], SPACING, "head")


def test_another_slice_can_be_shown_also_without_any_lesion_and_the_sums_stay_those_of_the_scan(volumes, masks):
    brain, _ = masks
    aligned, found = volumes
    other = AlignedExample.of(*volumes, np.zeros(SHAPE), brain, SPACING, index=2)
    np.testing.assert_array_equal(other.image, aligned[0, 0, 2])
    np.testing.assert_array_equal(other.pathological, found.pathological[0, 0, 2])
    assert not other.lesion.any()
    whole = float(found.pathological[0, 0][torch.from_numpy(brain)].sum()) * 5 * 4 * 4 / 1000
    assert other.sums_ml["pathological"] == pytest.approx((0, whole), rel=1e-5)


def test_what_is_predicted_outside_the_brain_does_not_count(example):
    everywhere = dataclasses.replace(example, probability=np.ones(SHAPE[1:]))
    np.testing.assert_array_equal(everywhere.predicted, example.brain)


def test_the_marks_hold_the_lesion_and_the_strongest_other_asymmetry_and_come_in_mirrored_pairs(example):
    marks = example.marks()
    assert list(marks) == ["pathological", "natural"]
    (top, bottom, left, right), mirrored = marks["pathological"]
    assert (top, bottom, left, right) == (9, 17, 6, 13)
    assert mirrored == (9, 17, 32 - 13, 32 - 6)
    (top, bottom, left, right), _ = marks["natural"]
    spot = np.zeros(SHAPE[1:], bool)
    spot[28:33, 20:25] = True
    assert spot[top:bottom, left:right].sum() >= 0.8 * spot.sum()
    with pytest.raises(DataError, match="wanted some lesion"):
        dataclasses.replace(example, lesion=np.zeros(SHAPE[1:], bool)).marks()


def test_a_lesion_everywhere_leaves_no_natural_mark(example):
    assert list(dataclasses.replace(example, lesion=example.brain).marks()) == ["pathological"]


def test_figure_1_marks_both_kinds_twice_and_shows_every_map_and_scan(example):
    figure = figures.fig01_disentangling(example)
    (ax,) = figure.axes
    colours = [mpl.colors.to_hex(p.get_edgecolor()).upper() for p in ax.patches if not p.get_fill()]
    assert {colour: colours.count(colour) for colour in colours} == {plotting.TRUTH_COLOUR: 3, "#CC79A7": 3}
    assert len(ax.images) == 1 + 7
    assert {"X", "X′", "A", "P", "Q", r"$\tilde{X}$", r"$\hat{X}$", "+ X", "D"} <= set(_notes(figure))
    plain, flipped = (ax.images[n].get_array() for n in (1, 2))
    np.testing.assert_allclose(flipped.filled(0), plain.filled(0)[:, ::-1])


@pytest.fixture(scope="module")
def networks():
    with torch.device("meta"):
        return Transformer3D(), ADN()


def test_figure_2_counts_the_published_networks_and_shows_every_step(networks, example):
    other = PipelineExample(example, example.image, example.probability, example.brain, example.total, example.total)
    figure = figures.fig02_pipeline(*networks, other)
    said = set(_said(figure).splitlines())
    assert {"7.46 M", "8.77 M", "25.00 M parameters", "volumes of 40 × 256 × 256", "sees X"} <= said
    assert {"T", "D", "F", "I", "X", "X′", "A", "P", "Q", "O", "−", "+", "$T^{-1}$"} <= said
    assert {"$L_T$", "$L_F$", r"$L_{tissue}$", r"$R_{GW}$", r"$R_{CSF}$"} <= said
    assert len(figure.axes[0].images) == 12


def test_figure_2_draws_no_tissue_that_training_does_not_have_and_says_what_d_sees(networks, example):
    with torch.device("meta"):
        network = ADN(sees="X,A")
    bare = PipelineExample(example, example.image, example.probability, example.brain)
    figure = figures.fig02_pipeline(networks[0], network, bare)
    said = set(_said(figure).splitlines())
    assert not {r"$L_{tissue}$", r"$R_{GW}$", r"$R_{CSF}$"} & said
    assert "sees X, A" in said
    assert len(figure.axes[0].images) == 10
    with pytest.raises(DataError, match="pictures"):
        figures.fig02_pipeline(*networks, dataclasses.replace(bare, scan=example.image[1:]))


def test_figure_3_has_a_column_a_row_of_table_1_in_its_order_with_the_dice_of_the_scan(case):
    found = {row: np.roll(0.9 * case.lesion, n, axis=2) for n, row in enumerate(reversed(tables.ROWS))}
    found["SEAN"] = np.zeros(SHAPE)
    figure = figures.fig03_contours([ContourExample.of(case, found, name) for name in ("scan a", "scan b")])
    assert _titles(figure) == ["scan", *figures.LABELS.values()]
    assert [text.get_text() for text in figure.texts] == ["scan a", "scan b"]
    assert [len(ax.collections) for ax in figure.axes] == [1, *(1 if row == "SEAN" else 2 for row in tables.ROWS)] * 2
    shifted = dice(np.roll(case.lesion, 7, axis=2), case.lesion)
    notes = [note for note in _notes(figure)[:9] if note.strip()]
    assert (notes[0], notes[4], notes[-1]) == (f"Dice {shifted:.2f}", "Dice 0.00", "Dice 1.00")
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown.mask, ~case.brain[1])


def test_contours_of_unequal_or_unknown_rows_are_refused(case):
    one = ContourExample.of(case, {"SEAN": case.lesion})
    for rows in (
        [],
        [one, ContourExample.of(case, {"DeepMedic": case.lesion})],
        [dataclasses.replace(one, predicted={})],
    ):
        with pytest.raises(DataError, match="same rows"):
            figures.fig03_contours(rows)
    with pytest.raises(DataError, match="same rows"):
        figures.fig03_contours([ContourExample.of(case, {"SEAN": case.lesion, "ADN": case.lesion})])
    with pytest.raises(DataError, match="no brain mask"):
        ContourExample.of(dataclasses.replace(case, brain=None), {"SEAN": case.lesion})


def test_figure_4_has_eight_pictures_a_scan_and_the_sums_below_the_maps(example):
    figure = figures.fig04_asymmetry_maps([example, dataclasses.replace(example, name="other")])
    assert len(figure.axes) == 16
    assert _titles(figure)[:3] == ["X", "reference", "prediction"]
    assert _titles(figure)[5:] == ["A", "P", "Q"]
    notes = [note for note in _notes(figure) if note]
    assert len(notes) == 6
    assert [text.get_text() for text in figure.texts][:2] == ["head", "other"]
    assert "sums inside, outside" in figure.texts[2].get_text()
    assert notes[0] == "in {:.1f}, out {:.1f}".format(*example.sums_ml["total"])
    assert [len(ax.collections) for ax in figure.axes[:8]] == [0, 1, 1, 0, 0, 0, 0, 0]
    for ax, name in zip(figure.axes[5:8], ("total", "pathological", "intrinsic"), strict=True):
        values = getattr(example, name)[example.brain]
        assert ax.images[0].get_clim() == pytest.approx((0, np.percentile(values, 99.5)))


def test_a_map_of_zeros_is_drawn_black(example):
    figure = figures.fig04_asymmetry_maps([dataclasses.replace(example, pathological=np.zeros(SHAPE[1:]))])
    assert figure.axes[6].images[0].get_clim() == (0, 1)


def test_true_maps_have_one_signed_scale_for_truth_and_asymmetry_and_one_for_the_learnt_map(example):
    figure = figures.fig_true_maps([example])
    pictures, bars = figure.axes[:5], figure.axes[5:]
    np.testing.assert_allclose(pictures[1].images[0].get_array().compressed(), 100 * example.truth[example.brain])
    limits = [ax.images[0].get_clim() for ax in pictures]
    assert limits[1] == limits[2] == limits[4] == (-15, 15)
    assert limits[3] == pytest.approx((0, example.pathological.max()))
    assert limits[0] == (10, 60)
    assert len(bars) == 4
    assert all(len(ax.collections) == 1 for ax in pictures)
    with pytest.raises(DataError, match="no truth"):
        figures.fig_true_maps([dataclasses.replace(example, truth=None)])


def test_the_real_head_has_seven_pictures_in_hu_but_for_p_and_a_line_that_says_what_it_is(example):
    real = dataclasses.replace(example, lesion=np.zeros(SHAPE[1:], bool), name="real head CT")
    figure = figures.fig_real_head(real)
    titles = ["X (HU)", "A (HU)", "P, learnt", "Q (HU)", r"$\hat{X} = X + Q$", r"$\tilde{X} = X + P$", "prediction"]
    assert _titles(figure) == titles
    pictures = figure.axes[:7]
    shown = [ax.images[0].get_array().compressed() for ax in pictures]
    values = [100 * real.image, 100 * real.total, real.pathological, 100 * real.intrinsic]
    values += [100 * real.anatomy_filled, 100 * real.pathology_filled, 100 * real.image]
    for found, wanted in zip(shown, values, strict=True):
        np.testing.assert_allclose(found, wanted[real.brain], rtol=1e-6)
    limits = [ax.images[0].get_clim() for ax in pictures]
    assert limits[1] == limits[3] == pytest.approx((0, 10), rel=1e-4)
    assert limits[0] == limits[4] == limits[5] == limits[6] == (10, 60)
    assert limits[2] == pytest.approx((0, real.pathological.max()))
    assert [len(ax.collections) for ax in pictures] == [0] * 6 + [1]
    assert len(figure.axes) == 7 + 4
    (said,) = figure.texts
    assert said.get_text().startswith("a real head CT without known infarct")
    figure.canvas.draw()
    whole, box = figure.bbox, said.get_window_extent()
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert not any(box.overlaps(ax.get_tightbbox()) for ax in figure.axes)
    nothing = figures.fig_real_head(dataclasses.replace(real, probability=np.zeros(SHAPE[1:])))
    assert "none on this slice" in _notes(nothing)


def _errors():
    rows = [
        (way, f"{anatomy}{i}", anatomy, scale * (i + 1), 2 * scale * (i + 1))
        for way, scale in (("none", 3.0), ("T", 0.5))
        for anatomy in "AB"
        for i in range(6)
    ]
    return pd.DataFrame(rows, columns=["alignment", "case", "anatomy", "angle_deg", "shift_mm"])


def test_poses_have_a_dot_a_scan_a_box_and_the_interval_of_the_table():
    errors = _errors()
    figure = figures.fig_poses(errors, tables.table_poses(errors, RUN))
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["none", "T"]
    assert (left.get_xlabel(), right.get_xlabel()) == ("remaining angle (degrees)", "remaining shift (mm)")
    dots = [line.get_xdata() for line in left.lines if line.get_marker() == "o"]
    assert [list(part) for part in dots] == [pytest.approx(list(range(3, 21, 3)))] * 2 + [
        pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
    ] * 2
    assert len(left.patches) == 4
    means = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "D"]
    assert means == pytest.approx([21, 21, 3.5, 3.5])
    interval = bootstrap_ci(np.arange(6, 42, 6.0), seed=RUN.seed)
    (drawn, *_) = (line for line in right.lines if line.get_zorder() == 5)
    assert list(drawn.get_xdata()) == pytest.approx([interval.low, interval.high])
    with pytest.raises(DataError, match="no \\['T'\\]"):
        figures.fig_poses(errors, tables.table_poses(errors[errors["alignment"] == "none"], RUN))


def _score_table():
    rows = []
    for method, level in (("ADN", 0.8), ("printed losses", 0.6), ("P = A", 0.7), ("P = 0", np.nan)):
        for anatomy in "AB":
            rows += [(method, f"{anatomy}{i}", anatomy, "auc", level + 0.01 * i) for i in range(4)]
    scores = pd.DataFrame(rows, columns=["method", "case", "anatomy", "metric", "value"])
    return tables.table_disentangling(scores, RUN)


def test_disentangling_scores_are_points_and_what_needs_no_network_is_a_line():
    figure = figures.fig_disentangling_scores(_score_table(), ["auc"])
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ADN", "printed losses"]
    points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert points == pytest.approx([0.815, 0.815, 0.615, 0.615])
    dashed = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == pytest.approx([0.715, 0.715])
    assert [line for line in ax.lines if line.get_linestyle() == ":"] == []
    assert ax.get_xlabel() == "AUC for the infarct"


def test_scores_without_a_method_or_with_another_metric_are_refused():
    table = _score_table()
    with pytest.raises(DataError, match="recall"):
        figures.fig_disentangling_scores(table, ["recall"])
    with pytest.raises(DataError, match="rows \\[\\]"):
        figures.fig_disentangling_scores(table[table["row"] == "P = A"], ["auc"])
