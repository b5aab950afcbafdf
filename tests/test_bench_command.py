"""``strokelib bench`` names what it measures, prints ratios alone, and says plainly where there is no checkout."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from strokelib import cli, settings
from strokelib.commands import bench

SECTION = """## Scores

`benchmarks/scores.py`, 2026-01-01.

| pair | strokelib, ms | peer, ms | peer / strokelib |
| --- | --- | --- | --- |
| small | 2.0 | 8.0 | 4.0 |
| large | 3.0 | 30.0 | 10 |

| training | steps/s |
| --- | --- |
| one | 8.1 |

| method | ours | ratio (range) |
| --- | --- | --- |
| first | 0.5 | 53 (48 to 59) |
"""


def test_only_the_columns_of_ratios_are_kept_and_a_table_without_any_is_left_out():
    title, *rows = bench.ratios(SECTION)
    assert title == "Scores"
    assert [" ".join(row.split()) for row in rows] == [
        "small peer / strokelib 4.0",
        "large peer / strokelib 10",
        "first ratio (range) 53 (48 to 59)",
    ]


def test_the_list_names_every_benchmark_and_which_are_on_request(capsys):
    assert cli.main(["bench", "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    results = bench._results()
    assert set(lines) == set(results.SCRIPTS)
    assert {name for name, line in lines.items() if "on request" in line} == results.ON_REQUEST


def test_the_ratios_of_the_last_run_are_printed_without_measuring(capsys, monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("something was measured"))
    assert cli.main(["bench", "metrics", "--last"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Scores of a pair of masks\n")
    assert "MedPy / strokelib" in said


def test_named_benchmarks_are_measured_and_their_exit_status_is_passed_on(capsys, monkeypatch):
    asked = []
    results = SimpleNamespace(
        SCRIPTS={"a": "A", "b": "B"},
        ON_REQUEST={"b"},
        main=lambda names: asked.append(names) or 3,
        earlier=lambda: {"a": SECTION},
    )
    monkeypatch.setattr(bench, "_results", lambda: results)
    assert cli.main(["bench"]) == 3
    assert cli.main(["bench", "b", "a"]) == 3
    assert asked == [["a"], ["b", "a"]]
    assert "b: not measured yet" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_by_name(capsys):
    assert cli.main(["bench", "speed"]) == 1
    assert "found speed; wanted metrics or" in capsys.readouterr().err


def test_without_a_checkout_the_command_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "project_root", lambda: tmp_path)
    assert cli.main(["bench", "--list"]) == 1
    assert "no benchmarks/results.py" in capsys.readouterr().err
