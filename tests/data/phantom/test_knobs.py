"""The table of numbers that the heads are made with."""

import dataclasses
from pathlib import Path

import pytest

from strokelib import settings
from strokelib.data import phantom
from strokelib.data.phantom.knobs import Knobs, knobs_csv

FIELDS = dataclasses.fields(Knobs)


def test_the_committed_table_is_what_the_code_reads():
    assert (settings.manifests_dir() / "knobs.csv").read_text() == knobs_csv()


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
def test_every_knob_is_read_by_the_module_it_names_and_has_a_source(field):
    text = (Path(phantom.__file__).parent / f"{field.metadata['used_in']}.py").read_text()
    assert f"k.{field.name}" in text or f"KNOBS.{field.name}" in text
    assert field.metadata["source"]
    assert field.metadata["unit"]
