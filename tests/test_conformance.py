"""The scores of docs/metrics.md, computed again: equal to five packages, or different for the reason given."""

import importlib.util

import pytest

from strokelib.settings import project_root

ROOT = project_root()


@pytest.fixture(scope="module")
def conformance():
    spec = importlib.util.spec_from_file_location("conformance", ROOT / "benchmarks" / "conformance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def computed(conformance):
    return conformance.computed()


def test_every_score_equals_each_package_or_differs_for_a_reason_that_is_written_down(conformance, computed):
    wrong = [
        (pair, peer, name, packages["strokelib"][name], value)
        for pair, packages in computed.items()
        for peer in conformance.PEERS
        for name, value in packages[peer].items()
        if not conformance.agrees(packages["strokelib"][name], value) and (peer, name) not in conformance.DIFFERENCES
    ]
    assert not wrong
    assert sum(len(packages[peer]) for packages in computed.values() for peer in conformance.PEERS) == 5 * 26


def test_every_reason_explains_a_difference_that_exists(conformance, computed):
    idle = [
        (peer, name)
        for peer, name in conformance.DIFFERENCES
        if all(conformance.agrees(p["strokelib"][name], p[peer][name]) for p in computed.values())
    ]
    assert not idle


def test_the_page_holds_the_tables_as_they_are_computed(conformance):
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert conformance.written(page) == page


def test_a_distance_of_exactly_the_tolerance_is_within_it_whichever_way_it_was_found(conformance, computed):
    # In the scattered pair a k-d tree measures what a distance transform does in the compact one: 2 mm of 1.2 and 1.6.
    for packages in computed.values():
        assert packages["strokelib"]["surface_dice"] == pytest.approx(packages["MONAI"]["surface_dice"], abs=1e-6)
