"""Demo weights: what is stored, what is refused, and that the shipped ones score what their cards say."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from strokelib import manifest, settings
from strokelib.data.ctp import ctp_case
from strokelib.data.phantom import embedded
from strokelib.data.phantom.perfusion import render_ctp
from strokelib.errors import CheckpointError, DataError, ParameterError
from strokelib.methods import weight_export, weights
from strokelib.methods.baseline import BaselineRecipe
from strokelib.methods.scoring import score
from strokelib.methods.unet import UNET
from strokelib.methods.weight_kinds import KINDS, PERFUSION, setup_from
from strokelib.papl.rows import PROPOSED
from strokelib.pseudo_dwi import tables
from strokelib.recipe import Recipe
from strokelib.ssl_nnunet.fingerprint import Intensities, Normalisation
from strokelib.ssl_nnunet.planning import Plan
from strokelib.ssl_nnunet.setup import Setup

LARGEST_ALL = 8_000_000
# bfloat16 sums depend on the processor; Dice of one scan moves by less than this.
OTHER_HARDWARE = 0.01
SCORES = {"n": 2, "dice": [0.2, 0.1, 0.3], "status": "undertrained", "cases": {"a": 0.1, "b": 0.3}}
PLAN = Plan((5.0, 4.0, 4.0), (20.0, 40.0, 30.0), (8, 16, 32), 2, (4, 8), ((1, 1, 1), (1, 2, 2)), ((1, 3, 3), (3, 3, 3)))
SETUP = Setup(PLAN, Normalisation((Intensities(30.0, 31.0, 8.0, -5.0, 90.0, 5.0, 60.0),)))


def facts_of(key, recipes, **more):
    """The least that a file has to say."""
    parts = {name: {"recipe": dataclasses.asdict(recipe), "weights": 0} for name, recipe in recipes.items()}
    if key == "ssl_nnunet":
        parts["ssl_finetuning"]["setup"] = dataclasses.asdict(SETUP)
    head = {"format": weights.FORMAT, "key": key, "row": KINDS[key].row, "cohort": KINDS[key].cohort}
    return json.loads(json.dumps(head | {"parts": parts, "scores": SCORES} | more))


def written(key, path):
    """Random networks of the smoke profile as a file; the networks too."""
    kind, networks = KINDS[key], {}
    recipes = {name: method.recipe.at("smoke") for name, method in kind.networks.items()}
    facts, tensors = facts_of(key, recipes), {}
    for name, said in facts["parts"].items():
        networks[name] = kind.method(name, said).build(recipes[name])
        tensors |= weights.stored(name, networks[name], kind.unused(name))
    save_file(tensors, path, {weights.HEADER: json.dumps(facts)})
    return networks


def test_a_byte_a_weight_by_hand_and_its_error_is_half_a_step_at_most():
    values = torch.tensor([[[1.27, -0.635]], [[0.0, 0.0]], [[0.02, 0.0149]]])
    numbers, scale = weights.in_bytes(values)
    assert numbers.flatten().tolist() == [127, -64, 0, 0, 127, 95]  # 63.5 goes to the even 64
    torch.testing.assert_close(scale, torch.tensor([0.01, 1.0, 0.02 / 127]))
    drawn = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    numbers, scale = weights.in_bytes(drawn)
    assert numbers.dtype == torch.int8
    assert ((weights.from_bytes(numbers, scale) - drawn).abs() <= scale.view(-1, 1, 1, 1) * 0.5001).all()


def test_kernels_of_small_networks_are_halves_those_of_large_ones_bytes_and_the_rest_is_whole(monkeypatch):
    model = UNET.build(UNET.recipe.at("smoke"))
    small = weights.stored("unet", model)
    assert {v.dtype for v in small.values() if v.ndim > 1} == {torch.float16}
    assert {v.dtype for v in small.values() if v.ndim == 1} == {torch.float32}
    monkeypatch.setattr(weights, "LARGE", 10)
    large = weights.stored("unet", model)
    kernels = {name for name, value in large.items() if value.ndim > 1}
    assert {large[name].dtype for name in kernels} == {torch.int8}
    assert {f"{name}{weights.SCALE}" for name in kernels} <= set(large)


@pytest.mark.parametrize("key", weights.KEYS)
@pytest.mark.parametrize("large", [0, 10**9], ids=["bytes", "halves"])
def test_networks_come_back_as_they_were_stored(key, large, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "LARGE", large)
    networks = written(key, tmp_path / "w.safetensors")
    before = torch.get_rng_state()
    demo = weights.load(key, tmp_path / "w.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert tuple(demo.parts) == tuple(KINDS[key].networks)
    assert demo.model is list(demo.parts.values())[-1].model
    assert not demo.model.training
    for name, part in demo.parts.items():
        assert part.recipe == part.method.recipe.at("smoke")
        kept = {k: v for k, v in networks[name].state_dict().items() if not k.startswith(KINDS[key].unused(name))}
        for place, value in part.model.state_dict().items():
            if place in kept and value.is_floating_point() and not value.isnan().all():
                step = kept[place].abs().max() / (100 if large == 0 else 1000)
                torch.testing.assert_close(value, kept[place], rtol=0, atol=float(step))


def test_the_facts_give_back_plan_and_normalisation():
    assert setup_from(json.loads(json.dumps(dataclasses.asdict(SETUP)))) == SETUP


def test_a_recipe_comes_back_with_its_tuples_and_not_with_other_fields():
    recipe = UNET.recipe.at("demo")
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert weights.restored(UNET.recipe, plain) == recipe
    with pytest.raises(ValueError, match="width"):
        weights.restored(UNET.recipe, {k: v for k, v in plain.items() if k != "width"})
    with pytest.raises(ValueError, match="extra"):
        weights.restored(UNET.recipe, plain | {"extra": 1})


def test_files_that_are_not_these_weights_are_refused(tmp_path):
    good, bad = tmp_path / "unet.safetensors", tmp_path / "bad.safetensors"
    written("unet", good)
    with pytest.raises(ParameterError, match="papl or adn"):
        weights.load("nothing")
    with pytest.raises(CheckpointError, match="no such file"):
        weights.load("unet", tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="found weights of unet; wanted papl"):
        weights.load("papl", good)
    save_file({"x": torch.zeros(2)}, bad)
    with pytest.raises(CheckpointError, match="no facts of this format"):
        weights.load("unet", bad)
    bad.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="restore the file"):
        weights.load("unet", bad)
    bad.write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(CheckpointError, match="written by strokelib"):
        weights.load("unet", bad)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, f: t.pop(next(iter(t))), "nothing usable"),
        (lambda t, f: t.update(extra=torch.zeros(1)), "tensors that no network has"),
        (lambda t, f: t.update({n: t[n].flatten() for n in t if t[n].ndim == 4}), "which is"),
        (lambda t, f: t.update({n: torch.full_like(t[n], np.inf) for n in t if t[n].ndim == 4}), "not finite"),
        (lambda t, f: f["parts"]["unet"]["recipe"].update(width=8), "which is"),
        (lambda t, f: f["parts"]["unet"]["recipe"].pop("width"), "differs in"),
        (lambda t, f: f["parts"].update(other=f["parts"]["unet"]), "do not fit"),
    ],
    ids=["lacking", "more", "shape", "infinite", "other width", "no width", "other network"],
)
def test_weights_and_facts_that_do_not_belong_together_are_refused(change, said, tmp_path):
    path = tmp_path / "unet.safetensors"
    written("unet", path)
    facts, tensors = weights.read(path)
    change(tensors, facts)
    save_file(tensors, path, {weights.HEADER: json.dumps(facts)})
    with pytest.raises(CheckpointError, match=said):
        weights.load("unet", path)


def test_what_storing_changed_is_after_minus_before():
    found = weight_export.change({"a": 0.30, "b": 0.10}, {"a": 0.31, "b": 0.08})
    assert found == {"mean": 0.005, "largest": 0.02}


def test_the_rows_are_those_that_the_papers_propose():
    assert KINDS["papl"].row == PROPOSED[2]
    assert KINDS["pseudo_dwi"].row == tables.PROPOSED[5]


def test_perfusion_is_asked_for_by_name(tmp_path):
    written("pseudo_dwi", tmp_path / "w.safetensors")
    demo = weights.load("pseudo_dwi", tmp_path / "w.safetensors")
    assert demo.needs == PERFUSION
    with pytest.raises(DataError, match=r"no cbf.*CT perfusion"):
        demo.see(embedded.render("aisd-0346", "prepared"))


# What is shipped


def shipped(key):
    return settings.assets_dir() / "weights" / f"{key}.safetensors"


def test_the_shipped_weights_are_small():
    files = list((settings.assets_dir() / "weights").iterdir())
    assert {f"{key}{end}" for key in weights.KEYS for end in (".safetensors", ".md")} <= {f.name for f in files}
    assert sum(file.stat().st_size for file in files) <= LARGEST_ALL


@pytest.mark.parametrize("key", weights.KEYS)
def test_the_committed_card_is_the_one_that_the_file_gives(key):
    text = shipped(key).with_suffix(".md").read_text("utf-8")
    assert text == weight_export.card_of(shipped(key))
    facts = weights.read(shipped(key))[0]
    assert facts["profile"] == "demo"
    wanted = ("Not for clinical use", "## Data", "## Scores", "## Limits", "95 % CI", "Licence", "Seed", "Status")
    assert all(word in text for word in (*wanted, facts["row"], f"n = {facts['scores']['n']}"))
    assert manifest.asset(f"weights/{key}.md")


@pytest.mark.parametrize("key", weights.KEYS)
def test_the_shipped_weights_are_of_the_code_and_the_recipes_of_today(key):
    demo = weights.load(key)
    for name, part in demo.parts.items():
        facts = demo.facts["parts"][name]
        assert facts["versions"] == part.method.versions()
        here = dataclasses.asdict(recipe_of(part))
        made = dataclasses.asdict(part.recipe)
        assert {k for k in here if here[k] != made[k]} <= {
            "setup",
            "start",
            "snapshots",
            "pretrained",
            "beta1",
            "beta2",
            "beta3",
            "steps",
        }


def recipe_of(part) -> Recipe:
    """The recipe of the demo; the baseline has more cases and steps than the U-Net's own."""
    if part.method is UNET:
        return UNET.recipe(**dataclasses.asdict(BaselineRecipe.at("demo")))
    return part.method.recipe.at("demo")


@pytest.mark.parametrize("key", weights.KEYS)
def test_a_scan_scores_what_the_card_says(key):
    demo = weights.load(key)
    cases = demo.facts["scores"]["cases"]
    name = max(cases, key=cases.get)
    case = ctp_case(render_ctp(name, "prepared")) if demo.needs == PERFUSION else embedded.render(name, "prepared")
    found = demo.predict(case)
    assert found.shape == case.image.array.shape
    assert found.dtype == np.float32
    assert not found[~case.brain].any()
    rows = score(key, {name: found}, [case]).set_index("metric")["value"]
    assert rows["dice"] == pytest.approx(cases[name], abs=OTHER_HARDWARE)
    assert cases[name] > 0
