"""The rows of Tables 1 to 5: what is trained for each, that it is trained once, and on what it is scored."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strokelib.errors import DataError
from strokelib.methods import predict
from strokelib.methods import pseudo_dwi as rows
from strokelib.methods.perfusion_rows import PERFUSION_REFERENCES
from strokelib.methods.pseudo_dwi import CHAINS, GENERATED_FROM, PROPOSED_LOSS, REAL, SEQUENTIAL, TABLE5, Study, quality
from strokelib.methods.pseudo_dwi_pictures import middle_case, pipeline_example, slice_of
from strokelib.metrics import dice
from strokelib.pseudo_dwi import chain, segmentation, synthesis
from strokelib.pseudo_dwi.losses import SEGMENTATION_LOSSES, SYNTHESIS_LOSSES
from strokelib.pseudo_dwi.sampling import network_inputs
from strokelib.settings import Profile, Settings
from strokelib.train.history import History, Row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pseudo_dwi"))
import made_cases

SCANS = tuple(
    [made_cases.scan(number, split) for number in numbers]
    for split, numbers in (("train", range(3)), ("val", range(3, 5)), ("test", range(5, 8)))
)
TEST = [case.id for case in SCANS[2]]
CHANGES = {**made_cases.SMALL, "steps": 2, "validations": 1, "lesion_share": None}
METHODS = (rows.SYNTHESIS, rows.SEGMENTATION, rows.JUDGE, rows.CHAIN)
IMAGE_METRICS = {"ssim", "psnr_db", "local_ssim", "local_psnr_db"}


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_cases.steady(patch)
        yield


def study_of(scans, out):
    parts = tuple([network_inputs(case) for case in part] for part in scans)
    return Study(scans, parts, Profile.SMOKE, 0, out, CHANGES)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return study_of(SCANS, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def table2(study):
    return study.table2()


@pytest.fixture(scope="module")
def table5(study):
    return study.table5()


def folders(study, key):
    return {p.name for p in study.out.glob(f"{key}-*") if p.is_dir()}


def recipes(outcome):
    return [trained.recipe for trained in outcome.trained]


# What is trained for each row


def test_the_rows_of_table_2_are_its_four_inputs_and_real_dwi_with_the_same_segmenter(table2):
    assert list(table2) == [*GENERATED_FROM, REAL]
    for row, changes in GENERATED_FROM.items():
        generator, segmenter = recipes(table2[row])
        assert (generator.inputs, generator.supervised) == (changes["inputs"], changes.get("supervised", True))
        assert generator.loss == PROPOSED_LOSS
        assert segmenter.inputs == ("pseudo_dwi",)
    (real,) = recipes(table2[REAL])
    assert real.inputs == ("dwi",)
    assert {(one.network, one.loss) for one in (recipes(outcome)[-1] for outcome in table2.values())} == {
        ("UNet", "L_CE")
    }


def test_the_rows_of_table_5_are_those_printed_each_with_slnet_and_its_loss(table5):
    assert tuple(table5) == TABLE5
    for row, inputs in (("CTA (I*)", ("frames",)), ("F_o", ("maps",)), (REAL, ("dwi",))):
        (recipe,) = recipes(table5[row])
        assert (recipe.inputs, recipe.network, recipe.loss) == (inputs, "SLNet", "L_WCE + L_HGD")
    for row, changes in CHAINS.items():
        (recipe,) = recipes(table5[row])
        assert table5[row].trained[0].method is rows.CHAIN
        assert (recipe.inputs, recipe.segment_maps) == (changes["inputs"], changes.get("segment_maps", False))


def asked(study, monkeypatch, name, table):
    """The rows of a table and what is asked of ``generated`` or ``segmented``, without training."""
    calls = {}
    monkeypatch.setattr(Study, name, lambda self, row, **changes: calls.update({row: changes}))
    assert list(getattr(study, table)()) == list(calls)
    return calls


def test_the_rows_of_tables_1_3_and_4_change_what_they_say_and_nothing_else(study, monkeypatch):
    assert asked(study, monkeypatch, "generated", "table1") == {
        row: {"inputs": ("maps",), "loss": row} for row in SYNTHESIS_LOSSES
    }
    assert asked(study, monkeypatch, "segmented", "table3") == {
        row: {"network": row, "loss": "L_CE"} for row in segmentation.NETWORKS
    }
    assert asked(study, monkeypatch, "segmented", "table4") == {row: {"loss": row} for row in SEGMENTATION_LOSSES}
    default = study.recipe(rows.SEGMENTATION)
    assert (default.inputs, default.network) == (("maps",), "SLNet")


def test_the_study_s_changes_hold_in_every_training_and_a_row_s_own_go_before(study):
    for method in METHODS:
        recipe = study.recipe(method)
        assert all(getattr(recipe, name) == value for name, value in CHANGES.items())
        assert study.recipe(method, steps=7).steps == 7
        assert study.recipe(method).w == 1.5


def test_every_method_is_filed_under_its_own_key_with_versions_and_a_validation_that_it_has(study, table5):
    assert len({method.key for method in METHODS}) == len(METHODS)
    for method, module in zip(METHODS, (synthesis, segmentation, segmentation, chain), strict=True):
        assert method.versions()[module.__name__] == module.VERSION
        assert all(version >= 1 for version in method.versions().values())
    for outcome in table5.values():
        for trained in outcome.trained:
            assert len(trained.history.curve(trained.method.validation)[1]) == 1


# Once


def test_rows_that_stand_in_two_tables_are_trained_once(study, table2, table5, monkeypatch):
    before = {method.key: folders(study, method.key) for method in METHODS}

    def refuse(*args, **how):
        raise AssertionError("trained again")

    for name in ("SYNTHESIS", "SEGMENTATION", "JUDGE", "CHAIN"):
        monkeypatch.setattr(rows, name, dataclasses.replace(getattr(rows, name), fit=refuse))
    of_table1 = study.generated(PROPOSED_LOSS, inputs=("maps",), loss=PROPOSED_LOSS)
    assert [t.folder for t in of_table1.trained] == [t.folder for t in table2["F_o"].trained]
    of_table4 = study.segmented("L_WCE + L_HGD", loss="L_WCE + L_HGD")
    assert of_table4.trained[0].folder == table5["F_o"].trained[0].folder
    pd.testing.assert_frame_equal(of_table4.scores.drop(columns="method"), table5["F_o"].scores.drop(columns="method"))
    assert list(study.table5()) == list(table5)
    assert {key: folders(study, key) for key in before} == before


def test_slnet_of_table_3_is_the_cross_entropy_of_table_4(study):
    of_table3 = study.segmented("SLNet", network="SLNet", loss="L_CE")
    of_table4 = study.segmented("L_CE", loss="L_CE")
    assert of_table3.trained[0].folder == of_table4.trained[0].folder
    assert set(of_table3.scores["method"]) == {"SLNet"}
    assert set(of_table4.scores["method"]) == {"L_CE"}


def test_each_further_training_has_a_folder_of_its_own(study, table2, table5):
    everything = {t.folder for table in (table2, table5) for outcome in table.values() for t in outcome.trained}
    # Table 2: four generators with a segmenter each, and real DWI; Table 5: three segmenters, four chains, three in a
    # row.
    assert len(everything) == 2 * 4 + 1 + 3 + 4 + 3


# Sequential training


def test_the_sequential_row_trains_three_networks_one_after_another(table5):
    outcome = table5[SEQUENTIAL]
    extractor, generator, segmenter = recipes(outcome)
    assert [t.method for t in outcome.trained] == [rows.SYNTHESIS, rows.SYNTHESIS, rows.SEGMENTATION]
    assert extractor.inputs == ("frames",)
    assert generator.inputs == ("maps", "mip", "high_level")
    assert segmenter.inputs == ("pseudo_dwi",)
    assert (segmenter.network, segmenter.loss) == ("SLNet", "L_WCE + L_HGD")
    assert extractor.loss == generator.loss == PROPOSED_LOSS


def test_each_network_of_the_sequential_row_sees_what_the_one_before_made(study, table5):
    outcome = table5[SEQUENTIAL]
    extractor, generator, segmenter = outcome.trained
    everyone = [case for part in study.parts for case in part]
    parts = rows.with_channel(study.parts[2], "high_level", predict(extractor, everyone))
    for case in parts:
        image = generator.method.predict(generator.model, generator.recipe, case).astype(np.float16)
        np.testing.assert_array_equal(outcome.image[case.id], image)
        (shown,) = rows.with_channel([case], "pseudo_dwi", outcome.image)
        probability = segmenter.method.predict(segmenter.model, segmenter.recipe, shown).astype(np.float16)
        np.testing.assert_array_equal(outcome.probability[case.id], probability)


def test_a_channel_is_added_to_copies_as_one_float32_group():
    case = made_cases.case(0)
    (more,) = rows.with_channel([case], "pseudo_dwi", {case.id: np.full(made_cases.SHAPE, 0.5, np.float16)})
    assert "pseudo_dwi" not in case.channels
    assert more.channels["pseudo_dwi"].shape == (1, *made_cases.SHAPE)
    assert more.channels["pseudo_dwi"].dtype == np.float32
    assert more.channels["maps"] is case.channels["maps"]


# Scores


def test_every_row_scores_every_test_case_once_and_no_other(table2, table5):
    for table in (table2, table5):
        for row, outcome in table.items():
            assert set(outcome.scores["method"]) == {row} == {outcome.row}
            assert not outcome.scores.duplicated(["case", "metric"]).any()
            counts = outcome.scores.groupby("metric")["case"].apply(sorted)
            assert all(cases == TEST for cases in counts)
            assert set(outcome.probability) == set(TEST)


def test_the_scores_are_those_of_the_probabilities_beside_them(study, table5):
    for outcome in table5.values():
        found = outcome.scores[outcome.scores["metric"] == "dice"].set_index("case")["value"]
        for case in study.parts[2]:
            assert found[case.id] == pytest.approx(dice(outcome.probability[case.id] > 0.5, case.lesion))


def test_rows_that_make_an_image_have_its_quality_and_the_others_have_none(table2, table5):
    for row, outcome in {**table2, **{f"5 {name}": found for name, found in table5.items()}}.items():
        made = outcome.trained[0].method is rows.SYNTHESIS
        assert set(outcome.image) == (set(TEST) if made else set()), row
        assert IMAGE_METRICS & set(outcome.scores["metric"]) == (IMAGE_METRICS if made else set()), row
    assert all(image.shape == made_cases.SHAPE for image in table2["F_o"].image.values())


def test_the_quality_of_an_equal_image_is_perfect_and_a_noisy_one_is_worse():
    cases = [made_cases.case(5, "test"), made_cases.case(6, "test", lesion=False)]
    equal = {case.id: case.channels["dwi"][0] for case in cases}
    frame = quality("equal", equal, cases)
    assert list(frame.columns) == ["method", "case", "metric", "value", "unit"]
    values = frame.set_index(["case", "metric"])["value"]
    assert values["scan-5", "ssim"] == values["scan-5", "local_ssim"] == pytest.approx(1)
    assert np.isinf(values["scan-5", "psnr_db"])
    assert np.isnan(values["scan-6", "local_ssim"])
    assert np.isnan(values["scan-6", "local_psnr_db"])
    rng = np.random.default_rng(0)
    noisy = quality("noisy", {n: image + rng.normal(0, 0.1, image.shape) for n, image in equal.items()}, cases)
    values = noisy.set_index(["case", "metric"])["value"]
    assert values["scan-5", "psnr_db"] == pytest.approx(20, abs=0.5)
    assert values["scan-5", "ssim"] < 0.95
    assert dict(zip(frame["metric"], frame["unit"], strict=True))["local_psnr_db"] == "dB"


def test_the_scores_of_several_rows_become_one_table(table2):
    frame = rows.scores_of(table2)
    assert list(frame.columns) == ["method", "case", "metric", "value", "unit"]
    assert list(dict.fromkeys(frame["method"])) == list(table2)
    assert len(frame) == sum(len(outcome.scores) for outcome in table2.values())


def test_reference_rows_are_chosen_without_the_test_cases_and_score_them_once(study, tmp_path):
    frame = study.references()
    assert set(frame["method"]) == set(PERFUSION_REFERENCES)
    assert set(frame["case"]) == set(TEST)
    assert not frame.duplicated(["method", "case", "metric"]).any()
    leaking = dataclasses.replace(study, scans=(SCANS[0], SCANS[2], SCANS[2]), out=tmp_path)
    with pytest.raises(DataError, match="scan-5"):
        leaking.references()


def test_a_test_case_among_the_training_cases_is_refused(study, tmp_path):
    leaking = dataclasses.replace(study, parts=(study.parts[2], study.parts[1], study.parts[2]), out=tmp_path)
    with pytest.raises(DataError, match=r"test cases: \['scan-5'"):
        leaking.segmented("F_o")


def with_curve(trained, values):
    curve = tuple(Row(step, "val", trained.method.validation, value) for step, value in enumerate(values))
    return dataclasses.replace(trained, history=History(curve, len(values), len(values)))


def test_a_row_has_the_weakest_status_of_what_was_trained_for_it(study, table2, monkeypatch):
    assert {outcome.status for outcome in table2.values()} == {"undertrained"}
    generator, segmenter = table2["F_o"].trained
    _, _, test = (
        rows.with_channel(p, "pseudo_dwi", table2["F_o"].image) if p is study.parts[2] else p for p in study.parts
    )
    flat, rising = [0.5] * 10, np.linspace(0, 1, 10)
    for curves, said in (((flat, flat), "did not learn"), ((rising, flat), "did not learn")):
        trained = [with_curve(one, curve) for one, curve in zip((generator, segmenter), curves, strict=True)]
        assert study.outcome("F_o", trained, test).status == said
    perfect = {case.id: case.lesion.astype(np.float16) for case in study.parts[2]}
    monkeypatch.setattr(rows, "predict", lambda trained, cases: perfect)
    worse = study.references().assign(value=lambda frame: frame["value"].where(frame["metric"] != "dice", 0.1))
    monkeypatch.setattr(Study, "references", lambda self: worse)
    for curves, said in (((flat, flat), "1 seed"), ((rising, flat), "undertrained"), ((flat, rising), "undertrained")):
        trained = [with_curve(one, curve) for one, curve in zip((generator, segmenter), curves, strict=True)]
        assert study.outcome("F_o", trained, test).status == said


# Without DWI


def test_rows_that_need_a_dwi_are_left_out_of_table_5_where_there_is_none(tmp_path):
    bare = study_of(
        tuple([made_cases.scan(int(c.id[5:]), c.split, dwi=False) for c in part] for part in SCANS), tmp_path
    )
    assert not bare.with_dwi
    found = bare.table5()
    assert list(found) == ["CTA (I*)", "F_o"]
    assert {outcome.scores["case"].nunique() for outcome in found.values()} == {3}
    assert not folders(bare, "pseudo_dwi")
    for needs_dwi in (bare.table1, bare.table2, bare.sequential):
        with pytest.raises(DataError, match="the public archive of ISLES 2018 has none"):
            needs_dwi()


def test_one_scan_without_a_dwi_is_enough_to_leave_them_out(study):
    assert study.with_dwi
    train, val, test = study.parts
    lacking = dataclasses.replace(study, parts=(train, val, [*test[:-1], made_cases.case(7, "test", dwi=False)]))
    assert not lacking.with_dwi
    with pytest.raises(DataError, match=r"scan-7(.|\n)*the public archive of ISLES 2018 has none"):
        quality("F_o", {case.id: np.zeros(made_cases.SHAPE) for case in lacking.parts[2]}, lacking.parts[2])


# Which scans


@pytest.mark.parametrize(("profile", "grid", "top"), [("paper", "published", 99.0), ("demo", "prepared", 99.9)])
def test_a_run_loads_all_its_scans_on_the_profile_s_grid_with_the_profile_s_inputs(
    profile, grid, top, tmp_path, monkeypatch
):
    calls = []

    def load(settings, **how):
        calls.append(how)
        return SCANS

    monkeypatch.setattr(rows, "load_ctp_parts", load)
    settings = Settings(Profile(profile), "isles2018", 3, None, tmp_path / "runs", tmp_path / "figures")
    study = rows.load_study(settings, steps=5)
    assert calls == [{"grid": grid, "progress": False, "train": None, "val": None, "test": None}]
    assert (study.seed, study.out, study.changes) == (3, tmp_path / "runs" / "models", {"steps": 5})
    assert study.scans is SCANS
    assert [[case.id for case in part] for part in study.parts] == [[case.id for case in part] for part in SCANS]
    expected = network_inputs(SCANS[0][0], dwi_top=top).channels
    assert set(study.parts[0][0].channels) == set(expected)
    np.testing.assert_array_equal(study.parts[0][0].channels["dwi"], expected["dwi"])


# Examples


def scored(values):
    """A row's outcome with (volume in mL, Dice) of each scan."""
    found = [
        (f"scan-{n}", metric, value)
        for n, pair in enumerate(values)
        for metric, value in zip(("truth_volume_ml", "dice"), pair, strict=True)
    ]
    frame = pd.DataFrame([("F_o", case, metric, value, "1") for case, metric, value in found], columns=rows.COLUMNS)
    return rows.Outcome("F_o", (), frame, "1 seed", {})


def test_the_scan_shown_has_the_median_dice_of_the_large_lesions_or_of_the_small_ones():
    outcome = scored([(20, 0.9), (30, 0.1), (40, 0.5), (5, 0.3), (10, 0.2), (1, 0.0)])
    assert middle_case(outcome) == "scan-2"
    assert middle_case(outcome, large=False) == "scan-4"


def test_where_no_scan_has_a_lesion_of_that_size_the_median_is_of_all():
    assert middle_case(scored([(5, 0.3), (4, 0.2), (1, 0.1)])) == "scan-1"
    assert middle_case(scored([(0, 0.0), (0, 0.0), (4, 0.2)]), large=False) == "scan-2"


def test_one_slice_shows_what_all_rows_of_a_table_made_of_the_same_scan(study, table5):
    name = middle_case(table5["F_o"])
    case = next(case for case in study.parts[2] if case.id == name)
    found = slice_of(study, table5, "F_o")
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    np.testing.assert_array_equal(found.lesion, case.lesion[z])
    assert set(found.predicted) == set(found.dice) == set(table5)
    assert set(found.synthetic) == {SEQUENTIAL}
    np.testing.assert_array_equal(found.synthetic[SEQUENTIAL], table5[SEQUENTIAL].image[name][z])
    for row, outcome in table5.items():
        np.testing.assert_array_equal(found.predicted[row], outcome.probability[name][z] > 0.5)
        scores = outcome.scores.set_index(["case", "metric"])["value"]
        assert found.dice[row] == pytest.approx(scores[name, "dice"])


def test_the_pipeline_is_shown_with_what_the_trained_chain_makes_of_the_middle_scan(study, table5):
    outcome = table5["DWI^{o,l,h}"]
    name = middle_case(outcome)
    case = next(case for case in study.parts[2] if case.id == name)
    found = pipeline_example(study, outcome)
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    np.testing.assert_allclose(found.probability, outcome.probability[name][z], atol=1e-3)


def test_a_figure_can_say_from_which_trainings_it_was_made(table5):
    few = {row: table5[row] for row in ("F_o", SEQUENTIAL)}
    named = rows.folders_of(few)
    assert list(named) == ["F_o-0", f"{SEQUENTIAL}-0", f"{SEQUENTIAL}-1", f"{SEQUENTIAL}-2"]
    assert named[f"{SEQUENTIAL}-2"] == table5[SEQUENTIAL].trained[2].folder.name
