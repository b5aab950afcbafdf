"""Perfusion scans of a run: embedded ones with maps from their own series, and real ones as their data set has them."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokelib import settings
from strokelib.data import ctp, perfusion, real_ctp, sharing
from strokelib.data.cases import channel, load_case, save_case
from strokelib.data.phantom.cohorts import CaseFiles
from strokelib.data.phantom.perfusion import render_ctp
from strokelib.data.preparing import prepare
from strokelib.data.realcase import Choices
from strokelib.data.sources import RawCase
from strokelib.errors import DataError, ParameterError

sys.path.insert(0, os.path.dirname(__file__))
import archives

NAME = "isles2018-0001-1"
THICKER, FINER = 1.6, 2


@pytest.fixture(scope="module")
def scan():
    return render_ctp(NAME)


@pytest.fixture(scope="module")
def case(scan):
    return ctp.ctp_case(scan)


@pytest.fixture
def embedded_run(tmp_path, monkeypatch):
    monkeypatch.setenv("STROKELIB_RUNS", str(tmp_path / "runs"))
    return settings.resolve("smoke", "isles2018")


@pytest.fixture
def made(monkeypatch, case):
    """Names that were made, in order; always the same scan, so that the tests are quick."""
    names = []

    def fake(name, grid):
        names.append((name, grid))
        return name

    monkeypatch.setattr(ctp.rendering, "render_ctp", fake)
    monkeypatch.setattr(ctp, "ctp_case", lambda name: dataclasses.replace(case, id=name))
    monkeypatch.setattr(ctp, "SCANS_A_WORKER", 1000)
    return names


def test_an_embedded_scan_keeps_series_and_dwi_and_gains_maps_that_vanish_outside_the_brain(scan, case):
    assert set(case.channels) == {*ctp.MAPS, "series", "dwi"}
    np.testing.assert_array_equal(case.channels["series"], scan.series)
    np.testing.assert_array_equal(case.channels["dwi"], scan.dwi)
    assert (case.channels["series"].dtype, case.channels["dwi"].dtype) == (np.int16, np.float32)
    for name in ctp.MAPS:
        values = case.channels[name]
        assert values.dtype == np.float32
        assert values.shape == case.image.array.shape
        assert np.isfinite(values).all()
        assert (values[~case.brain] == 0).all()
        assert values[case.brain].any()


def test_the_maps_are_those_of_osvd_on_the_smoothed_series(scan, case):
    quiet = perfusion.smoothed(scan.series - scan.baseline, scan.case.brain, 2.5)
    found = perfusion.perfusion_maps(quiet, scan.aif, scan.step_s, scan.case.brain, "osvd")
    inside = case.brain & np.isfinite(found.mtt_s)
    for name in ctp.MAPS:
        np.testing.assert_allclose(case.channels[name][inside], getattr(found, name)[inside], rtol=1e-5, atol=1e-5)


def test_late_tissue_is_late_and_the_core_is_poor_in_flow_on_the_maps(case):
    core, late = case.truth["ctp_core"], case.truth["ctp_penumbra"]
    normal = case.brain & ~late & (case.truth["ctp_cbf"] > 15)
    assert core.sum() > 20
    medians = {name: [np.median(case.channels[name][part]) for part in (core, normal)] for name in ("cbf", "tmax_s")}
    assert medians["cbf"][0] < 0.5 * medians["cbf"][1]
    assert medians["tmax_s"][0] > medians["tmax_s"][1] + 2


def test_the_truth_and_the_facts_of_the_plain_case_stay(scan, case):
    assert scan.case.truth.items() <= case.truth.items()
    assert set(case.truth) - set(scan.case.truth) == {f"ctp_{name}" for name in ctp.TRUTH}
    assert scan.case.facts.items() <= case.facts.items()
    assert case.facts["step_s"] == scan.step_s
    assert case.facts["maps_by"].startswith("osvd")
    assert scan.case.channels == {}


def test_splits_and_limits_are_those_of_the_cohort_and_scans_are_made_once(embedded_run, made):
    train, hidden = ctp.load_ctp_parts(embedded_run, train=2, hidden=None)
    assert train.ids == ("isles2018-0001-1", "isles2018-0001-2")
    assert len(hidden) == 2
    assert made == [(name, "prepared") for name in (*train.ids, *hidden.ids)]
    again, *_ = ctp.load_ctp_parts(embedded_run, train=2, hidden=None)
    assert len(made) == 4
    assert again[1].id == "isles2018-0001-2"
    assert set(again[0].channels) == {*ctp.MAPS, "series", "dwi"}
    assert train.folder == embedded_run.runs / "cases/isles2018" / f"ctp-prepared-v{ctp.versions()}"


def test_the_published_split_is_demo_and_the_hidden_scans_are_all_there_in_paper():
    sizes = [len(ctp.scan_ids(part, "demo")) for part in ("train", "val", "test", "hidden")]
    assert sizes == [65, 6, 23, 23]
    assert len(ctp.scan_ids("hidden", "paper")) == 62
    with pytest.raises(ParameterError, match="profile"):
        ctp.scan_ids("hidden", "long")


def test_a_killed_run_goes_on_where_it_stopped_and_a_cut_file_is_made_again(embedded_run, made, monkeypatch):
    save = save_case

    def dies_at_the_second(case, path):
        if len(made) == 2:
            path.with_name(f".{path.stem}.abc.tmp{path.suffix}").write_bytes(b"half")
            raise KeyboardInterrupt
        return save(case, path)

    with monkeypatch.context() as patch:
        patch.setattr(sharing, "save_case", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            ctp.load_ctp_parts(embedded_run, test=2)
    (test,) = ctp.load_ctp_parts(embedded_run, test=2)
    assert [name for name, _ in made] == [test.ids[0], test.ids[1], test.ids[1]]
    assert not list(test.folder.glob(".*.tmp.safetensors"))
    path = test.path(test.ids[0])
    path.write_bytes(path.read_bytes()[:1000])
    ctp.load_ctp_parts(embedded_run, test=2)
    assert [name for name, _ in made[3:]] == [test.ids[0]]


def test_a_new_version_of_what_makes_scans_is_a_new_folder(monkeypatch):
    names = {ctp.versions()}
    for module in (ctp.embedded, ctp.rendering, ctp.perfusion, ctp):
        with monkeypatch.context() as patch:
            patch.setattr(module, "VERSION", 99)
            names.add(ctp.versions())
    assert len(names) == 5


def test_a_process_of_its_own_writes_the_same_bytes(tmp_path, case):
    job = {"folder": str(tmp_path / "other"), "grid": "prepared", "names": [NAME]}
    command = [sys.executable, "-m", "strokelib.data.ctp"]
    subprocess.run(command, input=json.dumps(job).encode(), check=True, timeout=120)
    here = save_case(case, tmp_path / "here.safetensors")
    assert (tmp_path / "other" / f"{NAME}.safetensors").read_bytes() == here.read_bytes()


@pytest.mark.parametrize(
    ("cohort", "wrong", "match"),
    [
        ("aisd", {"train": 1}, "cohort with perfusion"),
        ("isles2018", {"exam": 1}, "split"),
        ("isles2018", {"train": 1, "grid": "native"}, "prepared or published"),
    ],
)
def test_what_has_no_perfusion_is_refused(cohort, wrong, match):
    with pytest.raises(ParameterError, match=match):
        ctp.load_ctp_parts(settings.resolve("smoke", cohort), **wrong)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Case 2 is whole, 1 has no Tmax and no time step, and a hidden one a DWI that lies elsewhere and half a series."""
    root = tmp_path_factory.mktemp("isles")
    archives.write_isles2018(root, count=2, small=False, singleton=True, step_s=1.5, thicker=THICKER, finer=FINER)
    next(root.glob("TRAINING/case_1/*Tmax*/*.nii")).unlink()
    path = next(root.glob("TRAINING/case_1/*4DPWI*/*.nii"))
    image = nib.load(path, mmap=False)
    image.header["pixdim"][4] = 0
    nib.save(nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header), path)
    path = next(root.glob("TESTING/case_1/*DWI*/*.nii"))
    image = nib.load(path, mmap=False)
    affine = image.affine.copy()
    affine[0, 3] += 4.0
    nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)
    series = next(root.glob("TESTING/case_1/*4DPWI*/*.nii"))
    series.write_bytes(series.read_bytes()[:-1000])
    (root / "splits.csv").write_text("case,split\ntrain_case_1,train\ntrain_case_2,train\n")
    return root


@pytest.fixture(scope="module")
def real(archive, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROKELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        run = settings.resolve("smoke", "isles2018", 0, archive)
        with pytest.warns(UserWarning, match="1 of 2 scans of train left out: train_case_1 has no tmax_s"):
            return run, ctp.load_ctp_parts(run, train=None, hidden=None)


def stored(archive, kind, part="TRAINING/case_2"):
    array = np.array(nib.load(next(archive.glob(f"{part}/*.{kind}.*/*.nii"))).dataobj)
    return array.squeeze().transpose(*range(array.squeeze().ndim)[::-1])


def test_a_real_scan_keeps_its_own_slices_and_has_every_channel(archive, real):
    train, _ = real[1]
    case = train[0]
    assert train.ids == ("train_case_2",)
    assert case.image.array.shape == (8, 112, 96)
    assert case.image.spacing == pytest.approx((5.0 * THICKER, 2.0, 2.0))
    assert set(case.channels) == {*ctp.MAPS, "series", "dwi"}
    assert case.channels["series"].shape == (5, 8, 112, 96)
    assert case.channels["series"].dtype == np.int16
    assert (case.facts["step_s"], case.facts["step_by"]) == (1.5, "header")
    assert "channels_left_out" not in case.facts


def test_all_channels_are_moved_as_the_ct_is(real):
    case = real[1][0][0]
    inside = case.brain & ~case.lesion
    assert case.lesion.sum() > 1000
    for name, sick, sound in (("cbf", 10, 50), ("tmax_s", 10, 2), ("dwi", 900, 400)):
        values = case.channels[name]
        assert np.median(values[case.lesion]) == pytest.approx(sick, rel=0.05)
        assert np.median(values[inside]) == pytest.approx(sound, rel=0.05)
    series = case.channels["series"].astype(int)
    assert (np.abs(series[4] - series[0] - 12) <= 1)[case.brain].all()
    assert np.abs(series[0] - case.image.array)[inside].mean() < 2


def test_maps_do_not_fade_at_the_rim_of_the_brain_and_are_0_outside_it(real):
    case = real[1][0][0]
    assert (case.channels["cbf"][~case.brain] == 0).all()
    assert case.channels["cbf"][case.brain].min() >= 9.9


def test_as_scanned_every_channel_is_what_the_file_holds(archive, tmp_path):
    made = prepare(archive, "isles2018", out=tmp_path, choices=Choices("native"), only=["train_case_2"], workers=1)
    case = made.load("train_case_2")
    inside = case.brain
    for kind, name in (("CT_CBF", "cbf"), ("CT_MTT", "mtt_s"), ("MR_DWI", "dwi")):
        np.testing.assert_allclose(case.channels[name][inside], stored(archive, kind)[inside], atol=0.02)
    np.testing.assert_array_equal(case.channels["series"][:, inside], stored(archive, "CT_4DPWI")[:, inside])
    np.testing.assert_array_equal(case.image.array.shape, stored(archive, "CT").shape)


def test_a_dwi_elsewhere_and_a_damaged_series_are_left_out_until_they_are_needed(real):
    _, hidden = real[1]
    case = hidden[0]
    assert (case.split, case.lesion) == ("hidden", None)
    assert set(case.channels) == set(ctp.MAPS)
    assert channel(case, "cbf") is case.channels["cbf"]
    with pytest.raises(DataError, match=r"MR_DWI.*wanted the channel dwi.*docs/data\.md"):
        channel(case, "dwi")
    with pytest.raises(DataError, match="CT_4DPWI"):
        channel(case, "series")
    assert "step_s" not in case.facts


def test_a_case_without_any_channel_says_which_one_is_wanted(case):
    with pytest.raises(DataError, match="found channels none; wanted the channel dwi"):
        channel(dataclasses.replace(case, channels={}), "dwi")


def test_a_split_without_any_scan_that_has_the_maps_is_an_error_that_says_which_files(real, monkeypatch):
    run, (train, _) = real
    monkeypatch.setattr(ctp, "own_parts", lambda *_: (CaseFiles(train.folder, ["train_case_1"]),))
    with pytest.raises(DataError, match="CT_CBF, CT_CBV, CT_MTT and CT_Tmax"):
        ctp.load_ctp_parts(run, val=None)


def test_a_header_without_a_time_step_is_said_to_be_assumed(real):
    facts = load_case(real[1][0].path("train_case_1")).facts
    assert (facts["step_s"], facts["step_by"]) == (1.0, "assumed: the header has none")


def test_other_layouts_open_neither_series_nor_dwi(monkeypatch):
    def never(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr(real_ctp, "open_image", never)
    monkeypatch.setattr(real_ctp, "read_guarded", never)
    raw = RawCase("1", "1", "train", "aisd", {"ct": Path("CT"), "dwi": Path("DWI"), "ctp": Path("CTP")})
    assert real_ctp.moved_channels(raw, None, {}, None) == ({}, {})
