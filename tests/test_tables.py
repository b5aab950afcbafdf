import json

import pandas as pd
import pytest

from strokelib import figures, manifest, repro, settings, tables
from strokelib.errors import ManifestError

OUTPUT = manifest.artefacts().set_index("id").loc["papl_fig05", "output"]


def _make(folder, status="1 seed", content=b"picture"):
    path = folder / OUTPUT.removeprefix("figures/")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    record = {"sha256": {path.name: repro.sha256(path)}, "cohort": "aisd", "data": "embedded", "profile": "demo"}
    path.with_suffix(".png.json").write_text(json.dumps(record | {"status": status}))
    return path


def test_without_a_file_every_one_of_the_54_rows_is_not_yet(tmp_path):
    board = tables.scoreboard(tmp_path)
    assert len(board) == 54
    assert set(board["status"]) == {"not yet"}
    assert set(board["ours"]) == {""}


def test_a_file_with_its_sidecar_gives_its_status_and_says_what_it_was_made_with(tmp_path):
    _make(tmp_path)
    row = tables.scoreboard(tmp_path).set_index("ours").loc[OUTPUT]
    assert (row["status"], row["made_with"]) == ("1 seed", "aisd (embedded), demo")
    assert f"[ours](../{OUTPUT})" in tables.scoreboard_page(tables.scoreboard(tmp_path))


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
    folder = settings.project_root() / "figures"
    board = tables.scoreboard(folder)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "scoreboard.csv", keep_default_na=False), board)
    assert (folder / "scoreboard.md").read_text("utf-8") == tables.scoreboard_page(board)


def test_each_artefact_has_one_tile_and_every_status_a_colour(tmp_path):
    _make(tmp_path)
    figure = figures.scoreboard_tiles(tables.scoreboard(tmp_path), tables.PAPER_TITLES)
    assert len(figure.axes[0].patches) == 54
    from strokelib import plotting

    assert set(plotting.STATUS_COLOURS) == set(tables.STATUSES)
