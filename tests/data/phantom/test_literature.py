"""Embedded heads beside published measurements."""

import numpy as np
import pytest

from strokelib import manifest
from strokelib.data.phantom import embedded, literature
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import DataError

TABLE = manifest.read("literature")


@pytest.fixture(scope="module")
def measured():
    cases = [embedded.render(name) for name in ("aisd-0346", "aisd-0348", "aisd-0350")]
    return literature.measured(cases, [embedded.render("icoais-0004")], [5.0, 6.0])


def test_every_published_quantity_is_measured_and_nothing_else(measured):
    assert list(measured) == TABLE["quantity"].tolist()


def test_every_row_has_a_source_and_a_plausible_number():
    assert (TABLE["source"].str.len() > 20).all()
    assert (TABLE["mean"] > 0).all()


def test_volumes_and_shares_are_those_of_heads(measured):
    both = np.concatenate((measured["inside of the skull of men"], measured["inside of the skull of women"]))
    assert ((both > 1000) & (both < 2000)).all()
    assert ((measured["fluid inside of the skull"] > 4) & (measured["fluid inside of the skull"] < 40)).all()
    assert set(measured["calcified pineal body"]) <= {0.0, 100.0}
    assert 0.3 < measured["Dice between a reader and the reference"].item() < 1
    ratio = KNOBS.adc_acute / (0.5 * (KNOBS.adc_grey + KNOBS.adc_white))
    assert measured["ADC of the infarct over healthy tissue"].item() == pytest.approx(ratio)


def test_ours_stand_beside_and_never_in_the_published_column(measured):
    table = literature.beside(measured).set_index("quantity")
    assert table.loc["grey minus white matter", "published"] == 5.5
    assert table.loc["grey minus white matter", "ours"] == 5.5
    assert table.loc["grey minus white matter", "ours_sd"] == pytest.approx(0.5**0.5)
    assert table["ours_n"].tolist() == [len(values) for values in measured.values()]
    empty = literature.beside({})
    assert empty["ours"].isna().all()
    assert (empty["published"] == TABLE["mean"]).all()


def test_a_growth_with_age_needs_two_ages():
    case = embedded.render("aisd-0346")
    with pytest.raises(DataError, match="two ages"):
        literature.measured([case], [], [])
