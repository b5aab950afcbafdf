"""The ledger of equations is whole, and every object it names that exists says which equation it holds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re

import pytest

from strokelib import manifest

AUTHORS = {
    "papl": "Sun et al. 2024",
    "adn": "Ni et al. 2022",
    "ssl_nnunet": "Seia et al. 2023",
    "pseudo_dwi": "Wang et al. 2020",
}
ROWS = manifest.equations()


def find(dotted: str) -> object | None:
    """The object, or None where its module or the object does not exist yet; a module that is broken fails loudly."""
    module, _, name = dotted.rpartition(".")
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        if importlib.util.find_spec(".".join(parts[:length])) is None:
            return None
    return getattr(importlib.import_module(module), name, None)


def sources(docstring: str) -> str:
    """The text of ``Source:`` up to ``Deviation:`` or the end of its paragraph, in one line."""
    match = re.search(r"Source:(.*?)(?=\n\s*Deviation:|\n\s*\n|\Z)", inspect.cleandoc(docstring), re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def equations_named(docstring: str, author: str) -> set[int]:
    """Numbers after "Eq." or "Eqs" in the parts of ``Source:`` that belong to one paper."""
    numbers: set[int] = set()
    for part in re.split(r";|(?<=20\d\d)[,.]? (?:and )?", sources(docstring)):
        if author not in part:
            continue
        for listed in re.findall(r"Eqs?\.? ((?:\d+(?:\s*(?:-|,|and|to)\s*)?)+)", part):
            for first, last in re.findall(r"(\d+)(?:\s*(?:-|to)\s*(\d+))?", listed):
                numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def test_there_are_51_equations_numbered_without_gaps():
    assert len(ROWS) == 51
    for paper, count in {"papl": 24, "adn": 6, "ssl_nnunet": 3, "pseudo_dwi": 18}.items():
        assert ROWS["number"][ROWS["paper"] == paper].astype(int).tolist() == list(range(1, count + 1))


def test_every_row_is_filled_and_its_errata_are_of_its_paper():
    letter = {"papl": "P", "adn": "A", "ssl_nnunet": "S", "pseudo_dwi": "W"}
    last = {"papl": 39, "adn": 26, "ssl_nnunet": 36, "pseudo_dwi": 33}
    for row in ROWS.itertuples():
        assert row.name
        assert row.formula
        assert row.place.startswith("Sec. ")
        for erratum in filter(None, row.errata.split(";")):
            assert erratum[0] == letter[row.paper]
            assert 1 <= int(erratum[1:]) <= last[row.paper]


def test_objects_lie_in_their_paper_or_in_the_shared_layer():
    shared = ("strokelib.nn.", "strokelib.metrics.")
    for row in ROWS.itertuples():
        assert row.object.startswith((f"strokelib.{row.paper}.", *shared)), row.object
        assert re.fullmatch(r"strokelib(\.\w+)+", row.object)


def test_every_object_that_exists_names_its_equations_and_its_deviation():
    wrong, checked = [], 0
    for row in ROWS.itertuples():
        if (found := find(row.object)) is None:
            continue
        checked += 1
        docstring = found.__doc__ or ""
        if int(row.number) not in equations_named(docstring, AUTHORS[row.paper]):
            wrong.append(f"{row.object}: Eq. {row.number} of {row.paper} is not in its Source {sources(docstring)!r}")
        if not re.search(r"^\s*Deviation: \S", docstring, re.MULTILINE):
            wrong.append(f"{row.object}: no Deviation")
    assert wrong == []
    assert checked >= 9


@pytest.mark.parametrize(
    ("text", "author", "expected"),
    [
        ("Source: Eq. 9, Sun et al. 2024.\nDeviation: none.", "Sun et al. 2024", {9}),
        ("Source: Eqs 1-3 and 5, Sun et al. 2024.\nDeviation: none.", "Sun et al. 2024", {1, 2, 3, 5}),
        ("Source: Eqs 8, 9, Sun et al. 2024; X' in\nEq. 2, Ni et al. 2022.\nDeviation: Eq. 7.", "Ni et al. 2022", {2}),
        (
            "Source: Eqs 8, 9, Sun et al. 2024; X' in\nEq. 2, Ni et al. 2022.\nDeviation: Eq. 7.",
            "Sun et al. 2024",
            {8, 9},
        ),
        ("Source: Eq. 4, Ni et al. 2022, and Eq. 6, Sun et al. 2024.\n\nEq. 11, Ni et al. 2022", "Ni et al. 2022", {4}),
        ("Source: Sec. 2.2, Wang et al. 2020.\nDeviation: none.", "Wang et al. 2020", set()),
        ("No source. Eq. 3, Sun et al. 2024", "Sun et al. 2024", set()),
    ],
)
def test_equation_numbers_are_read_from_a_docstring(text, author, expected):
    assert equations_named(text, author) == expected
