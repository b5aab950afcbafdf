"""The benchmark that trains at the published size, here on small networks: what is killed and resumed ends the same."""

import dataclasses
import importlib.util
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from strokelib.data.cases import Case, Volume, save_case
from strokelib.recipe import Recipe
from strokelib.settings import project_root
from strokelib.train.history import Row

sys.path.insert(0, str(Path(__file__).resolve().parent / "adn"))
import made_heads

STEPS = 2
SMALL = {
    "chain": {"width": 4, "depth": 3},
    "T": {"width": 4, "batch": 2},
    "ADN": {"width": 4, "depth": 3, "batch": 1},
    "knowledge": {"width": 4, "depth": 3, "batch": 4},
    "formal": {"width": 4, "depth": 3, "batch": 2},
}


@pytest.fixture(scope="module")
def sizes():
    path = project_root() / "benchmarks" / "published_sizes.py"
    spec = importlib.util.spec_from_file_location("published_sizes", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name], sys.modules["published_trainings"]


def scan(name):
    """A perfusion scan of three slices of 32 x 32 whose brain fills a square; a lesion perfuses late."""
    rng, shape = np.random.default_rng(len(name)), (3, 32, 32)
    brain, lesion = np.zeros(shape, bool), np.zeros(shape, bool)
    brain[:, 4:28, 4:28], lesion[:2, 8:14, 6:12] = True, True
    rise = 40 * np.exp(-((np.arange(20) - 9.0) ** 2) / 12)
    series = 40 + rise[:, None, None, None] * np.where(lesion, 0.4, 1.0) + rng.normal(0, 2, (20, *shape))
    values = {"cbf": 50, "cbv": 4, "mtt_s": 5, "tmax_s": 2}
    maps = {key: (value * rng.uniform(0.8, 1.2, shape)).astype(np.float32) for key, value in values.items()}
    channels = maps | {"series": series.astype(np.int16), "dwi": np.where(lesion, 2, 1).astype(np.float32)}
    image = Volume(np.full(shape, 35.0, np.float32), np.diag([2.0, 2.0, 8.0, 1.0]))
    return Case(name, name, "isles2018", "train", image, lesion, brain, channels=channels)


def job_of(sizes, what, folder, run):
    """A job of a tiny training; its scans are written where they are not yet."""
    for name, number in (("one", 1), ("three", 2)):
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            save_case(scan(name) if what == "chain" else made_heads.head(number), path)
    return sizes.Job(what, STEPS, os.fspath(folder), ["one"], ["three"], os.fspath(folder / run), SMALL[what])


@pytest.fixture(scope="module")
def finished(sizes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    whole, broken = (job_of(sizes, "chain", folder, name) for name in ("whole", "broken"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROKELIB_DEVICE", "cpu")
        found = sizes.train_here(whole)
        sizes.killed_and_resumed(broken)
        return found | sizes.outcome(whole, broken), folder


@pytest.fixture(scope="module")
def ends(sizes, finished):
    return [sizes.state_of(finished[1] / name, 2 * STEPS) for name in ("whole", "broken")]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
class TestKilledAndResumed:
    def test_every_part_has_the_same_bytes_as_in_the_untouched_training(self, finished):
        found, _ = finished
        assert found["tolerance"] == 0
        assert len(found["same"]) == 6
        assert all(found["same"].values()), found["same"]

    def test_the_files_of_the_weights_are_the_same_to_the_last_byte(self, sizes, finished):
        paths = [sizes.checkpoint(finished[1] / run, 2 * STEPS) for run in ("whole", "broken")]
        assert len({path.with_suffix(".safetensors").read_bytes() for path in paths}) == 1
        assert len({(path.parents[1] / "history.csv").read_bytes() for path in paths}) == 1

    def test_one_run_was_resumed_and_the_other_was_not(self, ends):
        notes = [" ".join(state.plain["notes"]) for state in ends]
        assert [f"resumed at step {STEPS}" in said for said in notes] == [False, True]

    def test_the_learning_rate_drops_in_the_part_that_was_resumed(self, finished):
        assert finished[0]["lr"] == pytest.approx([0.002, 0.002, 0.0004, 0.0004])

    def test_the_report_names_size_memory_and_every_part(self, sizes, finished):
        text = sizes.report("chain", STEPS, finished[0], SMALL["chain"])
        assert "| 5 of 32 x 32 | 2 + 2 |" in text
        assert text.count("Not as published (in brackets): width 4 (64), depth 3 (5).") == 1
        assert "Killed in step 3, resumed at step 2." in text
        assert text.count("| True |") == 6
        assert finished[0]["peak_bytes"] > finished[0]["checkpoint_bytes"] > 4 * 3 * finished[0]["parameters"]

    def test_weights_and_optimiser_moved_on_after_the_first_checkpoint(self, sizes, finished, ends):
        before = sizes.state_of(finished[1] / "broken", STEPS)
        assert not sizes.compared(before, ends[1])["weights"]
        assert not sizes.compared(before, ends[1])["optimiser"]

    @pytest.mark.parametrize("group", ["model.", "optimizer.", "best.", "rng."])
    def test_one_changed_bit_of_one_tensor_is_seen(self, sizes, ends, group):
        name = max(key for key in ends[0].tensors if key.startswith(group) and ends[0].tensors[key].dim())
        changed = ends[0].tensors[name].clone()
        changed.view(-1).view(torch.uint8)[0] ^= 1
        other = dataclasses.replace(ends[0], tensors=ends[0].tensors | {name: changed})
        wrong = [key for key, same in sizes.compared(ends[0], other).items() if not same]
        assert wrong == [key for key, prefix in sizes.GROUPS.items() if prefix == group]

    def test_another_position_or_another_history_is_seen(self, sizes, ends):
        moved = dataclasses.replace(ends[0], plain=ends[0].plain | {"sampler": {"seed": 0, "drawn": 1}})
        assert not sizes.compared(ends[0], moved)["position and learning rate"]
        shorter = dataclasses.replace(ends[0], rows=ends[0].rows[:-1])
        assert not sizes.compared(ends[0], shorter)["history"]


def test_a_tolerance_is_of_a_groups_norm_and_of_each_value_of_the_history(sizes):
    one = {"a": torch.full((100,), 2.0), "b": torch.zeros(3)}
    near, far = ({**one, "b": torch.full((3,), size)} for size in (0.1, 0.2))  # 20 is the norm: 0.17 and 0.35 apart
    assert sizes.same_tensors(one, near, 0.01)
    assert not sizes.same_tensors(one, far, 0.01)
    assert not sizes.same_tensors(one, near, 0.0)
    assert not sizes.same_tensors(one, {"a": one["a"]}, 0.01)
    rows = [Row(1, "train", "loss", 2.0)]
    assert sizes.same_rows(rows, [Row(1, "train", "loss", 2.01)], 0.01)
    assert not sizes.same_rows(rows, [Row(1, "train", "loss", 2.03)], 0.01)
    assert not sizes.same_rows(rows, [Row(1, "train", "loss", 2.01)], 0.0)


@pytest.mark.parametrize(("what", "heads", "lr"), [("T", 2, 1e-5), ("ADN", 1, 1e-3)])
def test_t_and_adn_are_trained_on_heads_with_poses_and_tissue_and_what_they_see_is_named(
    sizes, tmp_path, monkeypatch, what, heads, lr
):
    monkeypatch.setenv("STROKELIB_DEVICE", "cpu")
    found = sizes.train_here(job_of(sizes, what, tmp_path, "run"))
    assert found["batch"] == f"{heads} of 16 x 32 x 28"
    assert found["lr"] == pytest.approx([lr * (1 - step / 4) ** 0.9 for step in range(4)])
    assert found["seconds"] > 0
    assert sizes.checkpoint(tmp_path / "run", 2 * STEPS).is_file()


@pytest.mark.parametrize(("what", "seen"), [("knowledge", "4 of 32 x 28"), ("formal", "2 of 3 x 32 x 28")])
def test_papls_stages_are_trained_on_aligned_heads_and_each_step_is_noted(sizes, tmp_path, monkeypatch, what, seen):
    monkeypatch.setenv("STROKELIB_DEVICE", "cpu")
    found = sizes.train_here(job_of(sizes, what, tmp_path, "run"))
    assert found["batch"] == seen
    assert found["lr"] == [sizes.TRAININGS[what].recipe.at("paper").lr] * 4
    # Without a note of each forward pass there is no time between two of them.
    assert found["seconds"] > 0
    (case,) = sizes.TRAININGS[what].inputs([made_heads.head(1, tilt_deg=10.0)])
    both = case.brain[8] & case.brain[8, :, ::-1]
    assert both.sum() > 0.95 * case.brain[8].sum()


def test_stage_1_too_waits_to_be_killed_in_the_step_after_its_first_checkpoint(sizes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STROKELIB_DEVICE", "cpu")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    job = dataclasses.replace(job_of(sizes, "knowledge", tmp_path, "run"), hold=True)
    with pytest.raises(SystemExit, match="nobody killed"):
        sizes.train_here(job)
    assert capsys.readouterr().out.split() == [sizes.HELD]
    assert [path.name for path in (tmp_path / "run/checkpoints").glob("*.json")] == [f"step_{STEPS:08d}.json"]


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("chain", {"val_slices": 5}),
        ("synthesis", {"val_slices": 5}),
        ("segmentation", {"val_slices": 5}),
        ("T", {}),
        ("ADN", {}),
        ("knowledge", {"val_samples": 8}),
        ("formal", {"val_slices": 5, "beta1": 0.8, "beta2": 0.8, "beta3": 0.2}),
    ],
)
def test_steps_validations_and_validation_slices_alone_differ_from_what_was_published(sizes, what, more):
    recipe = sizes.recipe_of(what, 3, {})
    assert isinstance(recipe, Recipe)
    published = {f.name: f.metadata["paper"] for f in dataclasses.fields(recipe)}
    differing = {name: value for name, value in dataclasses.asdict(recipe).items() if value != published[name]}
    assert differing == {"steps": 6, "validations": 2} | more


def test_what_a_machine_has_no_room_for_is_said_beside_what_was_published(sizes):
    assert sizes.unlike("chain", sizes.TRAININGS["chain"].fits) == ""
    assert sizes.unlike("T", sizes.TRAININGS["T"].fits) == " Not as published (in brackets): batch 2 (40)."
    for what, said in (("ADN", "batch 1 (6)"), ("knowledge", "batch 32 (256)"), ("formal", "batch 4 (32)")):
        assert sizes.unlike(what, sizes.TRAININGS[what].fits) == f" Not as published (in brackets): {said}."


@pytest.mark.parametrize(("published", "fits"), [(False, {"batch": 2}), (True, {})])
def test_the_published_batch_is_taken_where_it_is_asked_for(sizes, monkeypatch, published, fits):
    measured = []
    monkeypatch.setattr(sizes, "measure", lambda *given: measured.append(given) or given[0] == "chain")
    assert sizes.main(["T", "chain"], 2, 8, published) == 1
    assert measured == [("T", 2, {**fits, "width": 8}), ("chain", 2, {"width": 8})]
    assert sizes.main(["chain"], 2, None, published) == 0


def test_the_time_of_a_step_leaves_out_the_gap_with_the_checkpoint(sizes):
    starts = [0.0, 2.0, 9.0, 11.0]  # the second step ends with a checkpoint
    assert sizes.seconds_a_step(starts, 0, 2) == 2.0
    assert sizes.seconds_a_step([0.0, 3.0], 2, 2) == 3.0
    assert np.isnan(sizes.seconds_a_step([0.0, 9.0], 0, 1))
