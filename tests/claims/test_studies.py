"""A real training at a tiny size: what the seed moves, what it does not, and what is kept of the scores."""

from __future__ import annotations

import dataclasses
import os
import sys

import numpy as np
import pytest

from strokelib.claiming import studies
from strokelib.claiming.trainings import Row
from strokelib.claims import records
from strokelib.methods import adn
from strokelib.settings import Profile, Settings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

HOW = {"shape": (16, 96, 80), "spacing": (5.0, 2.0, 2.0), "tilt_deg": 5.0}
PARTS = tuple(
    made_heads.heads(numbers, split, **HOW)
    for split, numbers in (("train", range(3)), ("val", range(3, 5)), ("test", range(5, 8)))
)
ROW = Row("adn", "aisd", "1", "3D ResUNet (aligned)")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    settings = Settings(Profile.SMOKE, "aisd", 0, None, out, out)
    made = adn.Study(PARTS, PARTS[2], Profile.SMOKE, 0, out / "models", {"validations": 1})
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        patch.setattr(adn, "load_study", lambda *args, **how: made)
        sizes = {adn.VOLUME.recipe: {"steps": 4}, adn.ALIGNMENT.recipe: {"steps": 2}}
        yield studies.study_of("adn", settings, sizes)


def test_a_seed_trains_a_network_of_its_own_on_heads_aligned_once(study):
    first, second = (study.trained(ROW, seed) for seed in (0, 1))
    assert [one[0][0].seed for one in (first, second)] == [0, 1]
    assert first[0][0].recipe.steps == 4
    weights = [
        np.concatenate([p.detach().numpy().ravel() for p in one[0][0].model.parameters()]) for one in (first, second)
    ]
    assert not np.allclose(*weights)
    kinds = [path.name.split("-")[0] for path in (study.study.out).iterdir() if path.is_dir()]
    assert sorted(kinds) == ["adn_alignment", "adn_volume", "adn_volume", "references"]


def test_the_same_seed_gives_the_same_scores(study):
    first, second = (study.trained(ROW, 1)[1][0].table for _ in range(2))
    assert first.equals(second)


def test_lines_hold_the_scores_of_claims_alone_with_patients(study):
    trained, found = study.trained(ROW, 1)
    table = studies.lines_of(ROW, 1, found, study.patients())
    assert list(table) == list(records.SCORE_COLUMNS)
    assert set(table["score"]) == {"dice", "hd95_mm"}
    assert set(table["seed"]) == {1}
    assert dict(zip(table["case"], table["patient"], strict=True)) == {case.id: case.patient for case in PARTS[2]}
    flag = studies.flag_line(ROW, 1, trained, "test").iloc[0]
    assert flag["value"] == float(trained[0].undertrained)
    other = studies.flag_line(ROW, 1, [dataclasses.replace(trained[0])], "test").iloc[0]
    assert other["value"] == flag["value"]


def test_references_give_their_dice_and_the_volumes_of_the_truth(study):
    table = studies.reference_lines("adn", "aisd", study)
    assert set(table["seed"]) == {records.NOT_TRAINED}
    volumes = table[table["row"] == records.TRUTH].set_index("case")["value"]
    assert volumes.to_dict() == pytest.approx({case.id: case.lesion_ml for case in PARTS[2]})
    assert set(table[table["row"] != records.TRUTH]["score"]) == {"dice"}
    assert len(set(table["row"])) == 4
