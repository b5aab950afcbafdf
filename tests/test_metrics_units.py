import pytest

from strokelib.metrics import unit_of


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("hd95_mm", "mm"),
        ("pred_volume_ml", "mL"),
        ("error_hu", "HU"),
        ("angle_deg", "degrees"),
        ("local_psnr_db", "dB"),
        ("dice", "1"),
        ("mm_dice", "1"),
    ],
)
def test_the_ending_of_a_metrics_name_says_its_unit(metric, unit):
    assert unit_of(metric) == unit
