"""Rows of many tables on the same scans, from made scores."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from strokelib.errors import DataError
from strokelib.methods import every_row
from strokelib.methods.every_row import Row, baseline_rows, comparison, without_network
from strokelib.settings import resolve

SETTINGS = resolve("demo", "aisd", 0)
SCANS = ["s1", "s2", "s3", "s4"]


def scores(values, scans=SCANS, metric="dice"):
    return pd.DataFrame({"case": scans, "metric": metric, "value": values})


def row(name, values, *, paper="papl", folders=None, status="1 seed", scans=SCANS):
    return Row(name, paper, status, (name,) if folders is None else folders, scores(values, scans))


def cases(patients=("p1", "p2", "p3", "p4"), scans=SCANS):
    return [SimpleNamespace(id=scan, patient=patient) for scan, patient in zip(scans, patients, strict=True)]


def test_scans_that_a_row_lacks_are_left_out_of_all():
    made = comparison(SETTINGS, [row("a", [1, 2, 3, 4]), row("b", [5, 6], scans=["s2", "s4"])], cases())
    assert made.scans == ["s2", "s4"]
    assert made.values("dice").to_numpy().tolist() == [[2, 5], [4, 6]]
    assert made.title == "aisd (embedded), n = 2"


def test_a_patient_with_two_scans_counts_once_by_their_mean():
    made = comparison(SETTINGS, [row("a", [0.2, 0.4, 0.5, 0.1])], cases(("p1", "p1", "p2", "p3")))
    values = made.values("dice")
    assert list(values.index) == ["p1", "p2", "p3"]
    assert values["a"].tolist() == pytest.approx([0.3, 0.5, 0.1])
    assert made.title == "aisd (embedded), 4 scans of 3 patients"


def test_a_patient_with_an_undefined_scan_has_no_value():
    made = comparison(SETTINGS, [row("a", [0.2, np.nan, 0.5, 0.1])], cases(("p1", "p1", "p2", "p3")))
    assert np.isnan(made.values("dice").loc["p1", "a"])
    assert made.values("dice")["a"].notna().sum() == 2


def test_a_training_that_two_tables_show_stands_once_under_its_first_name():
    rows = [row("ADN", [1, 2, 3, 4], folders=("f",)), row("ADN (Ours)", [1, 2, 3, 4], paper="adn", folders=("f",))]
    rows += [row("rule 1", [0] * 4, folders=(), paper="none"), row("rule 2", [0] * 4, folders=(), paper="none")]
    made = comparison(SETTINGS, rows, cases())
    assert list(made.rows) == ["ADN", "rule 1", "rule 2"]
    assert made.networks == ["ADN"]
    assert made.folders == {"ADN": "f"}


def test_two_rows_of_one_name_and_rows_without_a_common_scan_are_refused():
    with pytest.raises(DataError, match="a twice"):
        comparison(SETTINGS, [row("a", [1] * 4), row("a", [2] * 4, folders=("other",))], cases())
    with pytest.raises(DataError, match="on the same scans"):
        comparison(SETTINGS, [row("a", [1, 2], scans=["s1", "s2"]), row("b", [1, 2], scans=["s3", "s4"])], cases())


def test_the_weakest_status_of_all_rows_is_that_of_the_comparison():
    rows = [row("a", [1] * 4), row("b", [1] * 4, status="did not learn"), row("c", [0] * 4, folders=(), status="done")]
    assert comparison(SETTINGS, rows, cases()).weakest == "did not learn"


def test_rows_of_wangs_tables_are_written_as_in_his_figures():
    made = comparison(SETTINGS, [row("T5 DWI^o", [1] * 4, paper="pseudo_dwi"), row("U-Net", [1] * 4)], cases())
    assert made.labels == {"T5 DWI^o": r"T5 DWI$^{o}$"}


def test_reference_rows_have_short_names_and_no_training():
    table = pd.concat([scores([1] * 4).assign(method=key) for key in ("hu_threshold", "tmax_threshold")])
    found = without_network(table)
    assert [(one.name, one.paper, one.folders) for one in found] == [
        ("HU threshold", "none", ()),
        ("Tmax threshold", "none", ()),
    ]


@pytest.fixture
def left(tmp_path):
    """What notebook 05 leaves: its table, the names of its trainings, and their scores."""
    settings = every_row.Settings(SETTINGS.profile, "aisd", 0, None, tmp_path, tmp_path)
    table = tmp_path / "figures" / every_row.BASELINE_TABLE
    table.parent.mkdir(parents=True)
    lines = [("aisd", "U-Net, unaligned", "1 seed"), ("aisd", "U-Net, aligned", "undertrained")]
    pd.DataFrame(lines, columns=["cohort", "method", "status"]).to_csv(table, index=False)
    inputs = {"aisd-unet": "unet-1", "aisd-unet_aligned": "unet-2"}
    table.with_suffix(".csv.json").write_text(json.dumps({"inputs": inputs}))
    for key, folder in (("unet", "unet-1"), ("unet_aligned", "unet-2")):
        where = tmp_path / "models" / folder
        where.mkdir(parents=True)
        scores([0.1, 0.2, 0.3, 0.4]).assign(method=key, unit="1").to_csv(where / "metrics.csv", index=False)
    return settings


def test_the_baseline_is_read_as_its_notebook_left_it(left):
    found = baseline_rows(left, left.runs / "figures")
    assert [(one.name, one.status, one.folders) for one in found] == [
        ("baseline U-Net, unaligned", "1 seed", ("unet-1",)),
        ("baseline U-Net, aligned", "undertrained", ("unet-2",)),
    ]
    assert found[0].scores["value"].tolist() == [0.1, 0.2, 0.3, 0.4]


def test_a_cohort_that_the_baseline_never_saw_has_no_such_row_and_no_table_is_an_error(left):
    assert baseline_rows(left.beside("xwhd"), left.runs / "figures") == []
    with pytest.raises(DataError, match="run 05_baseline first"):
        baseline_rows(left, left.runs / "elsewhere")
