import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.errors import DataError
from strokelib.papl.agreement_figures import VolumeAgreement, fig11_bland_altman
from strokelib.stats import bland_altman

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


REFERENCE = np.array([5.0, 20.0, 35.0, 70.0, 90.0, 12.0])
ESTIMATED = np.array([7.0, 15.0, 30.0, 60.0, 20.0, 12.0])


def test_only_scans_up_to_70_ml_of_the_reference_count_and_the_differences_are_estimated_minus_reference():
    one = VolumeAgreement.of("PAPL", ESTIMATED, REFERENCE)
    assert (one.agreement.n, one.scans) == (5, 6)
    assert one.agreement.bias.value == pytest.approx((2 - 5 - 5 - 10 + 0) / 5)
    kept = REFERENCE <= 70
    assert one.agreement == bland_altman(ESTIMATED[kept], REFERENCE[kept])


def test_bias_and_limits_are_drawn_where_they_are_with_their_intervals():
    panels = [VolumeAgreement.of("U-Net", 0.5 * REFERENCE, REFERENCE), VolumeAgreement.of("PAPL", ESTIMATED, REFERENCE)]
    figure = fig11_bland_altman(panels)
    assert len(figure.axes) == 2
    for ax, one in zip(figure.axes, panels, strict=True):
        found = one.agreement
        lines = [line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1]
        assert lines == pytest.approx([found.lower.value, found.bias.value, found.upper.value, 0.0])
        spans = [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in ax.patches]
        wanted = [(one.low, one.high) for one in (found.lower, found.bias, found.upper)]
        np.testing.assert_allclose(spans, wanted)
    points = figure.axes[1].lines[-1]
    np.testing.assert_allclose(points.get_xdata(), [6.0, 17.5, 32.5, 65.0, 12.0])
    np.testing.assert_allclose(points.get_ydata(), [2.0, -5.0, -5.0, -10.0, 0.0])
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_the_title_keeps_the_hyphen_of_a_name_and_says_how_many_scans_are_left():
    title = fig11_bland_altman([VolumeAgreement.of("U-Net", ESTIMATED, REFERENCE)]).axes[0].get_title("left")
    assert title.startswith("U-Net: n = 5 of 6 scans, up to 70 mL\nbias −3.6 (")


def test_the_least_squares_line_has_the_slope_of_the_differences():
    one = VolumeAgreement.of("U-Net", 0.5 * REFERENCE, REFERENCE)
    (line,) = [each for each in fig11_bland_altman([one]).axes[0].lines if each.get_linestyle() == ":"]
    (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
    # 0.5 r - r over 0.75 r.
    assert (y1 - y0) / (x1 - x0) == pytest.approx(-2 / 3)
    assert y0 == pytest.approx(-2 / 3 * x0)


def test_equal_volumes_can_be_drawn():
    figure = fig11_bland_altman([VolumeAgreement.of("PAPL", REFERENCE, REFERENCE)])
    figure.canvas.draw()
    assert "bias 0.0" in figure.axes[0].get_title("left")


@pytest.mark.parametrize(
    ("estimated", "reference"), [([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, np.nan], [1.0, 2.0, 3.0])]
)
def test_columns_that_do_not_match_or_are_not_finite_are_refused(estimated, reference):
    with pytest.raises(DataError, match="volumes of PAPL"):
        VolumeAgreement.of("PAPL", estimated, reference)


def test_two_small_infarcts_are_shown_without_limits():
    one = VolumeAgreement.of("PAPL", [1.0, 2.0, 3.0], [1.5, 2.5, 100.0])
    assert one.agreement is None
    (ax,) = fig11_bland_altman([one]).axes
    assert "n = 2 of 3 scans" in ax.get_title("left")
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), [-0.5, -0.5])
    assert not ax.patches


def test_a_figure_without_panels_is_refused():
    with pytest.raises(DataError, match="panels"):
        fig11_bland_altman([])
