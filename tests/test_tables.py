import json

import pandas as pd
import pytest

from strokelib import figures, manifest, pages, repro, settings, tables
from strokelib.errors import ManifestError

FIGURES = settings.project_root() / "figures"
ITEMS = manifest.artefacts().set_index("id")
OUTPUT = ITEMS.loc["papl_fig05", "output"]


def _make(folder, status="1 seed", content=b"picture", output=OUTPUT):
    path = folder / output.removeprefix("figures/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    record = {"sha256": {path.name: repro.sha256(path)}, "cohort": "aisd", "data": "embedded", "profile": "demo"}
    path.with_suffix(path.suffix + ".json").write_text(json.dumps(record | {"status": status}))
    return path


def _table(folder, rows, **facts):
    """ADN's table as if a run had left it."""
    given = {"row": "ADN (Ours)", "metric": "Dice", "unit": "fraction", "published": "none", "status": "1 seed"}
    given |= {"cohort": "aisd", "profile": "demo", "data": "embedded", "ci95_low": "", "ci95_high": "", "n": 52}
    frame = pd.DataFrame([given | row for row in rows])
    return _make(folder, content=frame.to_csv(index=False).encode(), output=ITEMS.loc["adn_table1", "output"], **facts)


def _row(folder, paper, artefact):
    board = tables.scoreboard(folder).set_index(["paper", "artefact"])
    return board.loc[(paper, artefact)]


def test_without_a_file_every_one_of_the_54_rows_is_not_yet_and_the_20_tables_have_their_printed_number(tmp_path):
    board = tables.scoreboard(tmp_path)
    assert len(board) == 54
    assert set(board["status"]) == {"not yet"}
    assert set(board["ours"]) == set(board["file"]) == {""}
    assert (board["published"] != tables.PICTURE).sum() == 20
    assert (board["published"] != "").all()


def test_a_file_with_its_sidecar_gives_its_status_and_says_what_it_was_made_with(tmp_path):
    _make(tmp_path)
    row = tables.scoreboard(tmp_path).set_index("file").loc[OUTPUT]
    assert (row["status"], row["made_with"]) == ("1 seed", "aisd (embedded), demo")
    assert f"[picture](../{OUTPUT})" in tables.scoreboard_page(tables.scoreboard(tmp_path))


def test_a_headline_is_the_printed_cell_beside_our_mean_with_interval_scans_and_cohort(tmp_path):
    _table(tmp_path, [{"ours": 0.14402, "ci95_low": 0.1031, "ci95_high": 0.197}, {"row": "SEAN", "ours": 0.9}])
    row = _row(tmp_path, "adn", "Table 1")
    assert row["published"] == "0.5245"
    assert (row["ours"], row["ci95"], row["n"]) == ("0.144", "0.103 to 0.197", "52")
    assert row["made_with"] == "aisd (embedded), demo"
    page = tables.scoreboard_page(tables.scoreboard(tmp_path))
    (line,) = (one for one in page.splitlines() if one.startswith("| Table 1 | Dice of ADN |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3] == "[0.5245](../data_manifests/reported/adn_table1.csv)"
    assert cells[4] == "[0.144](../figures/adn/table1.csv) (0.103 to 0.197)"
    assert not any("0.5245" in cell and "0.144" in cell for cell in cells)


def test_a_row_of_a_hidden_test_set_has_no_number_of_ours_and_the_page_says_why(tmp_path):
    _table(tmp_path, [{"ours": 0.5, "status": "hidden test set"}], status="hidden test set")
    assert _row(tmp_path, "adn", "Table 1")["ours"] == ""
    page = tables.scoreboard_page(tables.scoreboard(tmp_path))
    assert "[none](../figures/adn/table1.csv): hidden test set" in page


@pytest.mark.parametrize("names", [("SEAN",), ("ADN (Ours)", "ADN (Ours)")])
def test_a_headline_that_does_not_name_one_row_of_ours_is_refused(tmp_path, names):
    _table(tmp_path, [{"row": name, "ours": 0.1} for name in names])
    with pytest.raises(ManifestError, match=r"headline of adn_table1: found \d rows"):
        tables.scoreboard(tmp_path)


def test_a_file_changed_after_it_was_made_is_refused(tmp_path):
    _make(tmp_path).write_bytes(b"retouched")
    with pytest.raises(ManifestError, match="sidecar does not describe"):
        tables.scoreboard(tmp_path)


@pytest.mark.parametrize("status", ["great", "", None, "not yet!"])
def test_a_status_of_ones_own_is_refused(tmp_path, status):
    _make(tmp_path, status)
    with pytest.raises(ManifestError, match="found status"):
        tables.scoreboard(tmp_path)


def test_the_committed_scoreboard_is_the_one_the_committed_figures_give():
    board = tables.scoreboard(FIGURES)
    committed = pd.read_csv(FIGURES / "scoreboard.csv", keep_default_na=False, dtype=str)
    pd.testing.assert_frame_equal(committed, board)
    assert (FIGURES / "scoreboard.md").read_text("utf-8") == tables.scoreboard_page(board)


def test_the_committed_scoreboard_has_no_hole():
    board = tables.scoreboard(FIGURES)
    assert set(board["status"]) <= set(tables.STATUSES) - {"not yet"}
    assert (board["file"] != "").all()
    assert set(board["artefact"][board["ours"] == ""]) <= set(board["artefact"][board["status"] == tables.HIDDEN])
    assert board["made_with"].str.contains("embedded").all()


def test_the_scoreboard_of_the_readme_is_the_one_the_committed_figures_give():
    readme = (FIGURES.parent / "README.md").read_text("utf-8")
    section = readme.split(f"<!-- {pages.SCOREBOARD} -->")[1].split(f"<!-- /{pages.SCOREBOARD} -->")[0]
    assert section.strip("\n") == "\n".join(pages.scoreboard_lines(FIGURES))
    assert section.count("\n| Table ") == 20
    assert section.count("\n| Figure ") == 34


def test_each_artefact_has_one_tile_and_every_status_a_colour(tmp_path):
    _make(tmp_path)
    figure = figures.scoreboard_tiles(tables.scoreboard(tmp_path), tables.PAPER_TITLES)
    assert len(figure.axes[0].patches) == 54
    from strokelib import plotting

    assert set(plotting.STATUS_COLOURS) == set(tables.STATUSES)
