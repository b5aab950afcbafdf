"""The paper's leak: pre-training on validation and test scans too, by name alone."""

import os
import sys
from dataclasses import replace

from strokelib.methods.ssl_nnunet import PRETRAINING, Study
from strokelib.methods.ssl_sets import pretraining_sets, stroke_scans
from strokelib.settings import Profile
from strokelib.ssl_nnunet.recipe import PretrainingRecipe

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads


def scans(cohort, ill):
    found = {}
    for part, count in zip(("train", "val", "test"), (3, 2, 2), strict=True):
        heads = [made_heads.head(number, part, lesion=ill, shape=(4, 12, 10)) for number in range(count)]
        named = [f"{cohort}-{part}-{number}" for number in range(count)]
        found[part] = [replace(one, id=n, patient=n, cohort=cohort) for one, n in zip(heads, named, strict=True)]
    return found


PARTS = {"icoais": scans("icoais", True), "center_tbi": scans("center_tbi", False)}


def split_of(cases):
    return {case.id.split("-")[1] for case in cases}


def test_without_it_training_parts_alone_are_seen_and_with_it_all_parts_while_validation_stays():
    positive = stroke_scans(PARTS)
    plain, leaking = (pretraining_sets(PARTS, positive, leak=leak) for leak in (False, True))
    for name in ("ALL", "STKp", "STKn"):
        assert split_of(plain[name][0]) == {"train"}
        assert split_of(leaking[name][0]) == {"train", "val", "test"}
        assert [case.id for case in plain[name][1]] == [case.id for case in leaking[name][1]]
    assert len(leaking["ALL"][0]) == 14


def test_a_study_leaks_only_where_its_recipe_says_so(tmp_path):
    assert not PretrainingRecipe.at("paper").leak
    plain = Study(PARTS, Profile.SMOKE, 0, tmp_path)
    leaking = Study(PARTS, Profile.SMOKE, 0, tmp_path, {PretrainingRecipe: {"leak": True}})
    assert (len(plain.sets["STKp"][0]), len(leaking.sets["STKp"][0])) == (3, 7)
    assert leaking.recipe(PRETRAINING).key() != plain.recipe(PRETRAINING).key()
