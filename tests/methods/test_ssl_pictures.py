"""What is shown of pre-trainings: which heads, by which encoder, and whether each number is that of these heads."""

import dataclasses
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from strokelib.errors import ParameterError
from strokelib.methods import ssl_encoded
from strokelib.methods import ssl_pictures as pictures
from strokelib.methods.ssl_encoded import ANATOMY, BASELINES, DATA_SET, STROKE, TRAINED, UNTRAINED
from strokelib.methods.ssl_nnunet import PRETRAINING, Study
from strokelib.settings import Profile, Settings
from strokelib.ssl_nnunet import figures, volumes
from strokelib.ssl_nnunet.clustering import clustering_scores
from strokelib.ssl_nnunet.recipe import PretrainingRecipe
from strokelib.ssl_nnunet.representations import Attribution, represent
from strokelib.ssl_nnunet.training_figures import collapse_curves, pretraining_views
from strokelib.stats import paired_bootstrap_ci

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

mpl.use("Agg")
SETTINGS = Settings(Profile.SMOKE, "icoais", 0, None, Path("runs"), Path("figures"))
COUNTS = {"icoais": (3, 2, 3), "aisd": (3, 2, 2), "center_tbi": (3, 3, 0)}
SHORT = {"view": (6, 24, 20), "slab": 9, "batch": 2, "steps": 2, "validations": 2}
CHANGES = {PretrainingRecipe: SHORT}
HELD_OUT = 12


def heads_of(name, number, count, split):
    ill = name != "center_tbi"
    made = [made_heads.head(k, split, lesion=ill) for k in range(number, number + count)]
    named = [dataclasses.replace(case, id=f"{name}-{case.id}", patient=f"{name}-{case.patient}") for case in made]
    return [dataclasses.replace(case, cohort=name) for case in named]


def parts_of(counts):
    parts, number = {}, 0
    for name, sizes in counts.items():
        parts[name] = {}
        for split, count in zip(("train", "val", "test"), sizes, strict=True):
            if count:
                parts[name][split] = heads_of(name, number, count, split)
            number += count
    return parts


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        patch.setattr(volumes, "contralateral_of", lambda case, how, seed: mirrored(case))
        yield
    plt.close("all")


def mirrored(case):
    """The flip: these heads stand upright in their field."""
    return np.where(case.brain, case.image.array, -1024)[..., ::-1].astype(np.float32).copy()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(parts_of(COUNTS), Profile.SMOKE, 0, tmp_path_factory.mktemp("models"), CHANGES)


@pytest.fixture(scope="module")
def seen(study):
    return pictures.encoded(study, "ALL-SA", steps=3)


@pytest.fixture(scope="module")
def both(study):
    return pictures.encoded(study, "ALL", 2, steps=3, mirrored=2)


# For the notebook of the pre-trainings


def test_views_are_of_different_training_heads_and_of_the_size_that_the_training_sees(study):
    shown = pictures.views_examples(study, 4)
    names = [one.name for one in shown]
    trained_on = {case.id for parts in study.parts.values() for case in parts["train"]}
    assert len(set(names)) == 4
    assert set(names) <= trained_on
    assert {view.shape for one in shown for view in (one.first, one.second, one.symmetric)} == {(24, 20)}
    assert {one.pair.slab.sides[0] for one in shown} == {9}
    assert not any(any(one.pair.contralateral) for one in shown)
    assert len(pretraining_views(shown).axes) == 20


def test_the_symmetric_view_shows_the_same_place_of_the_flipped_head(study):
    (one,) = pictures.views_examples(study, 1)
    by_name = {case.id: case for parts in study.parts.values() for case in parts["train"]}
    case = by_name[one.name]
    recipe = study.recipe(PRETRAINING, symmetry=1.0)
    flipped = dataclasses.replace(case, image=case.image.with_array(mirrored(case)), brain=case.brain)
    (head,) = study.setup().heads(recipe, [flipped], unlabelled=True)
    view = pictures.ViewsExample.of(dataclasses.replace(head, contralateral=head.images), one.pair, recipe.view)
    np.testing.assert_allclose(one.symmetric, view.first, atol=1e-5)
    assert np.abs(one.symmetric - one.first).max() > 0.5


def test_more_views_than_heads_are_refused(study):
    with pytest.raises(ParameterError, match="1 to 9"):
        pictures.views_examples(study, 10)
    with pytest.raises(ParameterError):
        pictures.views_examples(study, 0)


def test_watches_hold_the_validations_of_each_pre_training(study):
    found = pictures.watches(study, ["ALL", "ALL-SA"])
    for name, watch in found.items():
        trained = study.pretrained(name)
        np.testing.assert_array_equal(watch.rank, trained.history.curve("rank_me"))
        np.testing.assert_array_equal(watch.loss, trained.history.curve("val_loss"))
        assert watch.outputs == trained.recipe.prototypes
    assert not np.array_equal(found["ALL"].loss[1], found["ALL-SA"].loss[1])
    assert len(collapse_curves(found).axes) == 4


# Which heads, and which vectors


def test_all_held_out_heads_are_seen_and_no_other(study, seen):
    expected = [c.id for parts in study.parts.values() for split in ("val", "test") for c in parts.get(split, ())]
    assert [head.id for head in seen.heads] == expected
    assert len(expected) == HELD_OUT
    assert seen.labels[DATA_SET].tolist() == [name.split("-")[0] for name in expected]
    np.testing.assert_array_equal(seen.labels[STROKE], seen.labels[DATA_SET] != "center_tbi")
    assert set(seen.labels[ANATOMY]) == {"anatomy-0", "anatomy-1"}
    assert seen.inputs == {"ALL-SA": study.pretrained("ALL-SA").folder.name}


@pytest.mark.parametrize("region", ["slab", "box"])
def test_the_vectors_are_the_pooled_last_stage_of_the_teacher_s_encoder_on_slabs_as_deep_as_a_view(study, seen, region):
    one = dataclasses.replace(seen, recipe=dataclasses.replace(seen.recipe, region=region))
    encoder = study.pretrained("ALL-SA").model.teacher.encoder
    expected = represent(encoder, list(seen.heads), region=region, slices=6)
    np.testing.assert_allclose(one.vectors[TRAINED], expected, atol=1e-6)
    brain, lesion = one.masks(0)
    head = seen.heads[0]
    assert brain.shape == tuple(one.region(head).shape[1:])
    middle = slice((brain.shape[0] - 6) // 2, None) if region == "box" else slice(None)
    start = (head.brain.shape[0] - len(brain)) // 2
    np.testing.assert_array_equal(brain, head.brain[start : start + len(brain)])
    np.testing.assert_array_equal(lesion, head.lesions[start : start + len(brain)] > 0)
    assert lesion[middle].any()


def test_the_untrained_encoder_is_the_one_that_this_pre_training_started_from(study):
    still = dataclasses.replace(study, changes={PretrainingRecipe: SHORT | {"momentum": 1.0}})
    one = pictures.encoded(still, "ALL", steps=1)
    for name, weight in one.encoders[UNTRAINED].state_dict().items():
        assert torch.equal(weight, one.encoders[TRAINED].state_dict()[name])
    np.testing.assert_array_equal(one.vectors[UNTRAINED], one.vectors[TRAINED])


def test_a_pre_training_changes_the_vectors(seen):
    assert np.abs(seen.vectors[TRAINED] - seen.vectors[UNTRAINED]).max() > 1e-4


def test_each_row_holds_the_six_nearest_other_heads_of_its_point_nearest_first(seen):
    assert len(seen.points) == len(set(seen.points)) == 3
    vectors = seen.vectors[TRAINED].astype(float)
    spread = vectors.std(axis=0)
    scaled = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1)
    for point, row in zip(seen.points, seen.shown, strict=True):
        away = {k: np.linalg.norm(scaled[k] - scaled[point]) for k in range(HELD_OUT) if k != point}
        np.testing.assert_allclose([away[k] for k in row], sorted(away.values())[:6])
        assert point not in row


# What the figures show


def test_only_the_heads_in_the_figure_are_attributed_and_each_once(study, monkeypatch):
    one, asked, whole = pictures.encoded(study, "ALL-SA", steps=2), [], ssl_encoded.attributions

    def counted(encoder, image, background, **how):
        asked.append(tuple(image.shape))
        return whole(encoder, image, background, **how)

    monkeypatch.setattr(ssl_encoded, "attributions", counted)
    data = pictures.representations(one)
    assert len(asked) == len({index for row in one.shown for index in row})
    assert [len(row) for row in data.rows] == [6, 6, 6]
    pictures.attribution_shares([one], SETTINGS)
    assert len(asked) == 4 * len({index for row in one.shown for index in row})


def test_a_neighbour_is_the_middle_slice_of_the_slab_in_hu_and_its_map_is_of_the_same_slice(study, seen):
    one = seen.neighbour(1)
    case = study.parts["icoais"]["val"][1]
    head = seen.heads[1]
    z = (head.brain.shape[0] - 6) // 2 + 3
    np.testing.assert_array_equal(one.brain, head.brain[z])
    low, high = study.setup().normalisation.channels[0].percentile_00_5, seen.intensities[0].percentile_99_5
    inside = case.image.array[case.brain.any(axis=(1, 2))][z][case.brain[case.brain.any(axis=(1, 2))][z]]
    np.testing.assert_allclose(one.images[0][one.brain], inside.clip(low, high), atol=1e-3)
    np.testing.assert_allclose(one.images[0][~one.brain], low, atol=1e-3)
    np.testing.assert_array_equal(one.attributions, seen.attributed(1).values[:, 3])
    assert one.data_set == "icoais"
    assert one.stroke


def test_fig_8_draws_what_an_encoder_of_one_channel_gives(seen):
    data = pictures.representations(seen)
    assert set(data.silhouettes) == {DATA_SET, STROKE, ANATOMY}
    assert data.perplexity == pytest.approx((HELD_OUT - 1) / 3)
    assert [channel.limits[0] <= 9 and channel.limits[1] >= 38 for channel in data.channels] == [True]
    assert figures.fig08_representations(data).axes


def test_two_channels_show_the_difference_of_some_heads_of_each_part(study, both):
    assert len(both.heads) == 2 + 2 + 2 + 2 + 2
    data = pictures.representations(both)
    assert list(both.inputs) == [data.encoder] == ["ALL, 2 channels"]
    assert figures.figB9_representations_two_channels(data).axes
    shown = data.rows[0][0]
    assert shown.images.shape[0] == shown.attributions.shape[0] == 2
    head = both.heads[both.shown[0][0]]
    case = next(c for parts in study.parts.values() for split in parts.values() for c in split if c.id == head.id)
    levels = np.flatnonzero(case.brain.any(axis=(1, 2)))
    z = levels[0] + (len(levels) - 6) // 2 + 3
    rows = case.brain.any(axis=(0, 2))
    columns = case.brain.any(axis=(0, 1))
    fair = case.brain[z] & (mirrored(case)[z] != -1024)
    difference = np.where(fair, mirrored(case)[z] - case.image.array[z], 0)[rows][:, columns]
    end = both.intensities[1]
    np.testing.assert_allclose(shown.images[1], difference.clip(end.percentile_00_5, end.percentile_99_5), atol=1e-3)
    low, high = both.looks[1].limits
    assert low == -high < 0


# Attributions


def test_with_the_background_as_baseline_nothing_outside_the_brain_has_an_attribution(seen):
    brain, _ = seen.masks(0)
    plain = seen.attributed(0).values[0]
    assert not plain[~brain].any()
    assert plain[brain].any()
    assert seen.attributed(0, baseline="mean").values[0][~brain].any()
    with pytest.raises(ParameterError, match="baseline"):
        seen.attributed(0, baseline="air")


def filled(seen, of):
    """The same heads with attributions that are given: ``of`` makes them from brain and lesion."""
    maps = {}
    for index in {k for row in seen.shown for k in row}:
        values = of(*seen.masks(index)).astype(np.float32)[None]
        for weights in seen.encoders:
            for baseline in BASELINES:
                maps[index, weights, baseline] = Attribution(values, float(values.sum()), 0.0)
    return dataclasses.replace(seen, _maps=maps)


def test_attributions_that_are_everywhere_alike_have_the_share_of_the_volume(seen):
    table = pictures.attribution_shares([filled(seen, lambda brain, lesion: np.full(brain.shape, -2.0))], SETTINGS)
    np.testing.assert_allclose(table["ours"], table["volume"])
    np.testing.assert_allclose(table["difference"], 0, atol=1e-12)
    shown = {k for row in seen.shown for k in row}
    assert set(table.query("place == 'brain'")["n"]) == {len(shown)}
    assert set(table.query("place == 'lesion'")["n"]) == {sum(bool(seen.masks(k)[1].any()) for k in shown)}
    assert (table.query("place == 'brain'")["ours"] < 0.9).all()


def test_attributions_in_the_lesion_alone_have_a_share_of_one_wherever_there_is_a_lesion(seen):
    one = filled(seen, lambda brain, lesion: np.where(lesion, -1.0, 0.0))
    table = pictures.attribution_shares([one], SETTINGS)
    inside = table[table["place"] == "lesion"]
    assert (inside["ours"] == 1).all()
    assert (inside["difference_low"] > 0.5).all()
    assert set(inside["n"]) == set(table[table["place"] == "brain"]["n"])  # a head without any attribution has no share


def test_shares_are_of_the_background_baseline_exactly_one_and_carry_the_error_of_completeness(seen):
    table = pictures.attribution_shares([seen], SETTINGS).set_index(["weights", "baseline", "place"])
    for weights in (TRAINED, UNTRAINED):
        assert table.loc[(weights, "background", "brain"), "ours"] == 1
        assert table.loc[(weights, "mean", "brain"), "ours"] < 1
        shown = {k for row in seen.shown for k in row}
        maps = [seen.attributed(k, weights, "mean") for k in shown]
        errors = [abs(of.values.sum(dtype=np.float64) - of.difference) / abs(of.difference) for of in maps]
        assert table.loc[(weights, "mean", "brain"), "completeness_error"] == pytest.approx(np.median(errors), rel=1e-4)
    assert set(table["cohort"]) == {"icoais"}
    few = pictures.attribution_shares([seen], SETTINGS, (TRAINED,))
    assert set(few["weights"]) == {TRAINED}


# Clustering


def test_the_table_of_clustering_has_both_metrics_of_every_label_before_and_after(seen):
    table = pictures.clustering([seen], SETTINGS)
    assert len(table) == 2 * 3 * 2
    assert set(table["n"]) == {HELD_OUT}
    (expected,) = clustering_scores(seen.vectors[TRAINED], {STROKE: seen.labels[STROKE]}, k=6, permutations=49)
    row = table.set_index(["weights", "label", "metric"]).loc[(TRAINED, STROKE, "accuracy")]
    assert row["ours"] == expected.accuracy.value
    assert row["chance"] == expected.accuracy_chance.value
    assert row["classes"] == "False 3; True 9"
    assert (table["p_holm"] >= table["p"]).all()
    assert (table["chance_low"] <= table["chance_high"]).all()


def test_a_silhouette_is_compared_with_that_of_the_untrained_encoder_on_the_same_heads(seen):
    table = pictures.clustering([seen], SETTINGS).set_index(["weights", "label", "metric"])
    values = [seen.silhouettes(name, DATA_SET) for name in (TRAINED, UNTRAINED)]
    vectors = seen.vectors[UNTRAINED].astype(float)
    alive = vectors.std(axis=0) > 1e-7 * np.abs(vectors).max(axis=0)
    scaled = ((vectors - vectors.mean(axis=0)) / vectors.std(axis=0))[:, alive]
    assert values[1].mean() == pytest.approx(silhouette_score(scaled, seen.labels[DATA_SET]))
    gain = paired_bootstrap_ci(*values, seed=0)
    row = table.loc[(TRAINED, DATA_SET, "silhouette")]
    assert (row["ours"], row["difference"]) == (pytest.approx(values[0].mean()), pytest.approx(gain.value))
    assert (row["difference_low"], row["difference_high"]) == (pytest.approx(gain.low), pytest.approx(gain.high))
    assert np.isnan(table.loc[(UNTRAINED, DATA_SET, "silhouette"), "difference"])


def test_labels_that_tell_nothing_apart_are_left_out_down_to_an_empty_table(seen):
    alike = {DATA_SET: np.full(HELD_OUT, "own"), STROKE: seen.labels[STROKE]}
    some = pictures.clustering([dataclasses.replace(seen, labels=alike)], SETTINGS)
    assert set(some["label"]) == {STROKE}
    none = dataclasses.replace(seen, labels={DATA_SET: alike[DATA_SET], STROKE: np.ones(HELD_OUT, bool)})
    empty = pictures.clustering([none], SETTINGS)
    assert empty.empty
    assert "ours" in empty
    assert figures.fig08_representations(pictures.representations(none)).axes
