import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from strokelib import cli, doctor, manifest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package is missing (None) or of another version."""
    real = doctor._version

    def pretend(name, version):
        monkeypatch.setattr(doctor, "_version", lambda asked: version if asked == name else real(asked))

    return pretend


def said_of(thing):
    return [one for one in doctor.examine() if one.thing == thing]


def test_what_is_asked_for_is_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {"package": project["dependencies"], **project["optional-dependencies"]}
    found = {group: sorted(one.name for one in wanted) for group, wanted in doctor.requirements().items()}
    assert found == {group: sorted(Requirement(line).name for line in lines) for group, lines in declared.items()}


def test_a_whole_installation_has_no_problem_and_ends_well(capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("doctor: 0 problem(s)")
    assert any(line.startswith("ok      torch") and "computes on" in line for line in lines)


def test_a_missing_package_is_a_problem_and_says_what_to_do(installed, capsys):
    installed("scipy", None)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM scipy" in out
    assert 'not installed; wanted scipy. Next step: pip install "scipy"' in out
    assert out.splitlines()[-1].startswith("doctor: 1 problem(s)")


def test_an_old_version_is_a_problem(installed):
    installed("numpy", "1.26.4")
    (found,) = said_of("numpy")
    assert found.word == doctor.BAD
    assert found.said.startswith("1.26.4; wanted numpy>=2.")


def test_what_only_the_book_needs_is_a_note(installed):
    installed("sphinx", None)
    (found,) = said_of("sphinx")
    assert found.word == doctor.NOTE
    assert "strokelib[book]" in found.said
    book = next(one for one in doctor.examine() if one.thing == "book")
    assert book.said == "2 of 3 packages"


def test_damaged_data_are_named(monkeypatch):
    monkeypatch.setattr(manifest, "verify", lambda: ["assets.csv: one file is another"])
    (found,) = said_of("data")
    assert (found.word, found.said) == (doctor.BAD, "assets.csv: one file is another")


def test_little_memory_and_an_old_python_are_told_apart(monkeypatch):
    import psutil

    few = type("Memory", (), {"total": 4e9})()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: few)
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (9, 0))
    words = {one.thing: one.word for one in doctor.machine()}
    assert (words["machine"], words["Python"]) == (doctor.NOTE, doctor.BAD)


def test_no_path_of_the_machine_stands_on_the_page():
    page = doctor.page(doctor.examine())
    assert str(Path.home()) not in page or str(Path.home()) == "/"
    assert str(ROOT) not in page
