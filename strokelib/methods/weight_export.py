"""From a finished training to demo weights: the file, its scores as they are stored, and its model card."""

from __future__ import annotations

import csv
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from torch import Tensor

from strokelib import __version__, repro, settings
from strokelib.errors import ParameterError
from strokelib.infer import model_device
from strokelib.methods.scoring import per_case, score, status, versus_references
from strokelib.methods.training import Trained
from strokelib.methods.training_rows import Finished
from strokelib.methods.weight_cards import card
from strokelib.methods.weight_kinds import KINDS, Part
from strokelib.methods.weights import FORMAT, HEADER, LARGE, Demo, load, read, stored
from strokelib.nn.precision import resolve_amp
from strokelib.stats import Bootstrap, bootstrap_ci

SHIPPED = "weights"
LARGEST_CHANGE = 0.005
LICENCE, SOURCE = "BSD-3-Clause", "strokelib"


def export(finished: Finished, folder: Path, *, largest_change: float = LARGEST_CHANGE) -> tuple[Path, Path]:
    """Write a trained row as demo weights, with its model card beside it.

    The scores on the card are those of the weights as they are stored. Where the folder is the one that the package
    ships, its rows in ``data_manifests/assets.csv`` are renewed too.

    Args:
        finished: The row that the paper proposes, trained on the embedded cohort that the method's paper is about.
        folder: Takes ``<method>.safetensors`` and ``<method>.md``, in place of older ones.
        largest_change: How much the mean Dice may differ from that of the weights as they were trained.

    Returns:
        The two files.

    Raises:
        ParameterError: Another row or cohort, real scans, or storing changes the scores by more.
    """
    _refuse_unless_demo(finished)
    facts, tensors = facts_of(finished), _tensors(finished)
    with tempfile.TemporaryDirectory() as place:
        first = Path(place) / f"{finished.key}.safetensors"
        _write(first, facts, tensors)
        facts["scores"] = scores_of(load(finished.key, first), finished)
        facts["change"] = change(facts["scores"]["cases"], _as_trained(finished))
    if abs(facts["change"]["mean"]) > largest_change:
        found, wanted = f"{facts['change']['mean']:+.4f}", f"at most {largest_change:g} either way"
        step = "store this network as float16: raise weights.LARGE"
        raise ParameterError("change of the mean Dice by storing", found=found, wanted=wanted, next_step=step)
    weights, page = Path(folder) / f"{finished.key}.safetensors", Path(folder) / f"{finished.key}.md"
    _write(weights, facts, tensors)
    repro.write_text(page, card_of(weights))
    if Path(folder).resolve() == shipped_folder().resolve():
        list_as_assets((weights, page))
    return weights, page


def shipped_folder() -> Path:
    """Where the package's own demo weights lie."""
    return settings.assets_dir() / SHIPPED


def card_of(file: Path) -> str:
    """The model card of a file of demo weights."""
    return card(read(file)[0], size=file.stat().st_size, digest=repro.sha256(file))


def _refuse_unless_demo(finished: Finished) -> None:
    kind, chosen = KINDS[finished.key], finished.settings
    wanted = f"{kind.row} on the embedded cohort {kind.cohort}"
    if (finished.row, chosen.cohort, chosen.data) != (kind.row, kind.cohort, None):
        found = f"{finished.row} on {chosen.cohort} ({chosen.source})"
        step = "train this row: `strokelib train METHOD --export FOLDER` without --row, --cohort and --data"
        raise ParameterError(f"demo weights of {finished.key}", found=found, wanted=wanted, next_step=step)


def _write(path: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    with repro.atomic_path(path) as temporary:
        save_file(tensors, temporary, {HEADER: json.dumps(facts, sort_keys=False)})


def _tensors(finished: Finished) -> dict[str, Tensor]:
    kind, found = KINDS[finished.key], {}
    for name, one in finished.networks.items():
        found |= stored(name, one.model, kind.unused(name))
    return found


def facts_of(finished: Finished) -> dict[str, Any]:
    """What is known of the trainings, as plain values, but for the scores."""
    kind, chosen = KINDS[finished.key], finished.settings
    facts: dict[str, Any] = {"format": FORMAT, "key": finished.key, "title": kind.title, "paper": kind.paper}
    facts |= {"row": finished.row, "cohort": chosen.cohort, "profile": chosen.profile.value, "seed": chosen.seed}
    facts |= {"strokelib": __version__, "versions": repro.versions(), "threads": repro.threads(), "needs": kind.needs}
    facts["computed"] = f"{_amp(finished.trained[-1])} on {model_device(finished.trained[-1].model).type}"
    facts["parts"] = {name: _part(one, kind.unused(name)) for name, one in finished.networks.items()}
    for name, value in finished.more.items():
        plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        if name == "setup":
            facts["parts"][next(iter(facts["parts"]))]["setup"] = plain
        else:
            facts[name] = plain
    return json.loads(json.dumps(facts))


def _amp(trained: Trained) -> str:
    return resolve_amp("auto", model_device(trained.model))


def _part(trained: Trained, unused: tuple[str, ...]) -> dict[str, Any]:
    """One network in plain values."""
    state = trained.model.state_dict()
    count = sum(value.numel() for place, value in state.items() if not place.startswith(unused))
    made = json.loads((trained.folder / "trained.json").read_text("utf-8"))
    return {
        "title": trained.method.title,
        "training": trained.folder.name,
        "weights": count,
        "stored": "8 bits, a scale an output channel" if count > LARGE else "float16",
        "steps": trained.history.steps,
        "best_step": trained.history.best_step,
        "undertrained": trained.undertrained,
        "cohort": made["cohort"],
        "n_train": made["n_train"],
        "n_val": made["n_val"],
        "versions": made["versions"],
        "recipe": dataclasses.asdict(trained.recipe),
    }


def scores_of(demo: Demo, finished: Finished) -> dict[str, Any]:
    """Scores of stored weights on the test scans, beside the best of the rows that need no network."""
    seed, row = finished.settings.seed, finished.row
    own = score(row, {case.id: demo.predict(case) for case in finished.test}, finished.test)
    others = finished.scores[finished.scores["method"].isin(finished.references)]
    best, margin = versus_references(pd.concat([own, others]), row, finished.references, seed=seed)
    cases = per_case(own, row)
    reference = bootstrap_ci(per_case(others, best)["dice"], seed=seed)
    return {
        "n": len(cases),
        "dice": _interval(bootstrap_ci(cases["dice"], seed=seed)),
        "reference": best,
        "reference_dice": _interval(reference),
        "margin": _interval(margin),
        "status": status(finished.networks[list(finished.networks)[-1]], margin),
        "missed": int((cases["status"] == "missed").sum()),
        "cases": {name: round(float(value), 4) for name, value in cases["dice"].items()},
    }


def _interval(found: Bootstrap) -> list[float]:
    return [round(float(value), 4) for value in (found.value, found.low, found.high)]


def _as_trained(finished: Finished) -> dict[str, float]:
    """Dice of each test scan with the weights as they were trained, by the same way of predicting."""
    parts = {name: Part(one.method, one.recipe, one.model) for name, one in finished.networks.items()}
    demo = Demo(KINDS[finished.key], parts, facts_of(finished), "", "")
    found = score(finished.row, {case.id: demo.predict(case) for case in finished.test}, finished.test)
    return {name: float(value) for name, value in per_case(found, finished.row)["dice"].items()}


def change(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """What storing did to the Dice of the test scans: of the mean, and the largest of one scan.

    Args:
        after: Case -> Dice of the weights as they are stored.
        before: The same of the weights as they were trained.

    Returns:
        ``mean`` and ``largest``, both after minus before.
    """
    differences = np.array([after[name] - before[name] for name in before])
    return {
        "mean": round(float(differences.mean()), 4),
        "largest": round(float(differences[np.abs(differences).argmax()]), 4),
    }


def list_as_assets(files: tuple[Path, ...]) -> Path:
    """Renew the rows of shipped files in ``data_manifests/assets.csv``; the others stay as they are.

    Args:
        files: Below the package's assets.
    """
    path = settings.manifests_dir() / "assets.csv"
    with path.open(newline="", encoding="utf-8") as opened:
        head, *rows = list(csv.reader(opened))
    names = {file.resolve().relative_to(settings.assets_dir().resolve()).as_posix(): file for file in files}
    rows = [row for row in rows if row[0] not in names]
    for name, file in names.items():
        facts = (str(file.stat().st_size), repro.sha256(file))
        rows.append([name, *facts, SOURCE, LICENCE, "", "made by `strokelib train`"])
    with repro.atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, lineterminator="\n").writerows([head, *sorted(rows)])
    return path
