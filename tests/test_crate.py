"""The record of a run follows RO-Crate 1.1 and Process Run Crate 0.5, and its checks find each kind of damage."""

from __future__ import annotations

import datetime
import json
import time
import zipfile

import pytest

from strokelib import cli, crate, execution, pipeline, repro, settings
from strokelib.crate import code_state
from strokelib.errors import PipelineError

KEY = "papl-0123456789-seed0-89abcdef"


def _made(text, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def run(tmp_path):
    """A finished run of two notebooks, one of which drew a figure from a model."""
    s = settings.resolve("smoke")
    for name, ended in (("00_start_here", 1_700_000_000.0), ("42_papl_comparison", 1_700_000_100.0)):
        stamp = {"name": name, "ok": True, "seconds": 30.0, "peak_mb": 812.4, "artefacts": [], "ended": ended}
        _made(json.dumps(stamp), s.work / "stamps" / "papermill" / f"{name}.json")
        _made("{}", s.work / "executed" / f"{name}.ipynb")
    figure = _made("picture", s.work / "figures" / "papl" / "a b.png")
    record = {"notebook": "42_papl_comparison", "sha256": {figure.name: repro.sha256(figure)}, "inputs": {"PAPL": KEY}}
    _made(json.dumps(record), figure.with_name(figure.name + ".json"))
    _made("mask", s.work / "predictions" / "one.nii.gz")
    model = s.runs / "models" / KEY
    _made("weights", model / "model.safetensors")
    _made(json.dumps({"method": "papl", "cohort": "aisd", "seed": 0, "steps": 4}), model / "trained.json")
    _made("case,metric,value", model / "papl-54767d40" / "metrics.csv")
    return s


def _entities(folder):
    return {one["@id"]: one for one in json.loads((folder / crate.NAME).read_text("utf-8"))["@graph"]}


def test_the_record_of_a_run_holds_and_the_same_run_gives_the_same_bytes(run):
    path = crate.write(run)
    assert path == run.work / "ro-crate-metadata.json"
    assert crate.problems(run.work) == []
    before = path.read_bytes()
    crate.write(run)
    assert path.read_bytes() == before
    assert str(settings.project_root()) not in before.decode()
    assert str(run.runs) not in before.decode()


def test_it_says_what_went_in_what_ran_and_what_came_out(run):
    graph = _entities(crate.write(run).parent)
    action = graph["#run-42_papl_comparison"]
    assert action["endTime"] == "2023-11-14T22:15:00+00:00"
    assert datetime.datetime.fromisoformat(action["startTime"]).timestamp() == 1_700_000_070
    assert graph[action["resourceUsage"]["@id"]]["value"] == "812"
    results = {one["@id"] for one in action["result"]}
    assert results == {"executed/42_papl_comparison.ipynb", "figures/papl/a%20b.png", "figures/papl/a%20b.png.json"}
    assert {"@id": f"#model-{KEY}"} in action["object"]
    assert graph[f"#models/{KEY}/model.safetensors"]["sha256"] == repro.sha256(
        run.runs / "models" / KEY / "model.safetensors"
    )
    assert [graph[key]["value"] for key in ("#profile", "#cohort", "#seed", "#data")] == [
        "smoke",
        "aisd",
        "0",
        "embedded",
    ]
    lock = settings.project_root() / "requirements.lock"
    assert graph["#requirements.lock"]["sha256"] == repro.sha256(lock)
    ledger = settings.manifests_dir() / "artefacts.csv"
    assert graph["#data_manifests/artefacts.csv"]["sha256"] == repro.sha256(ledger)
    assert len(graph["./"]["citation"]) == 4
    assert graph["./"]["datePublished"] == action["endTime"]


def test_every_file_that_a_run_left_for_a_reader_is_a_part(run):
    graph = _entities(crate.write(run).parent)
    files = {key for key, one in graph.items() if one["@type"] == "File"}
    assert {"predictions/one.nii.gz", "executed/00_start_here.ipynb"} < files
    assert len(files) == 5
    assert {one["@id"] for one in graph["./"]["hasPart"]} == files


def _damage(folder, change):
    path = folder / crate.NAME
    document = json.loads(path.read_text("utf-8"))
    change(document, {one["@id"]: one for one in document["@graph"]})
    path.write_text(json.dumps(document))


DAMAGE = {
    "context is missing": lambda d, g: d.update({"@context": []}),
    "an @id stands twice": lambda d, g: d["@graph"].append(dict(g["#seed"])),
    "no ./": lambda d, g: d["@graph"].remove(g["./"]),
    "not a CreativeWork about ./": lambda d, g: g[crate.NAME].update(about={"@id": "#seed"}),
    "does not conform to https://w3id.org/ro/crate/1.1": lambda d, g: g[crate.NAME].pop("conformsTo"),
    "not a Dataset": lambda d, g: g["./"].update({"@type": "File"}),
    "no license": lambda d, g: g["./"].pop("license"),
    "datePublished is no ISO 8601 date": lambda d, g: g["./"].update(datePublished="last spring"),
    "does not conform to https://w3id.org/ro/wfrun/process": lambda d, g: g["./"].pop("conformsTo"),
    "refers to #gone, which is not described": lambda d, g: g["#strokelib"].update(author={"@id": "#gone"}),
    "nothing leads to it": lambda d, g: d["@graph"].append({"@id": "#alone", "@type": "Thing"}),
    "holds more than values and references": lambda d, g: g["#seed"].update(value={"@value": 0}),
    "no @type": lambda d, g: g["#seed"].pop("@type"),
    "no instrument": lambda d, g: g["#run-00_start_here"].pop("instrument"),
    "no ISO 8601 times in order": lambda d, g: g["#run-00_start_here"].update(endTime="2001-01-01T00:00:00+00:00"),
    "does not mention it": lambda d, g: g["./"].pop("mentions"),
    "not the size and SHA-256": lambda d, g: g["executed/00_start_here.ipynb"].update(contentSize="3"),
    "does not have as a part": lambda d, g: g["./"]["hasPart"].remove({"@id": "predictions/one.nii.gz"}),
    "but no File or Dataset": lambda d, g: g["./"]["hasPart"].append({"@id": "#seed"}),
    "not a path below the crate's root": lambda d, g: g["predictions/one.nii.gz"].update({"@id": "../one.nii.gz"}),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_each_kind_of_damage_to_the_record_is_found(run, said):
    crate.write(run)
    _damage(run.work, DAMAGE[said])
    assert any(said in problem for problem in crate.problems(run.work)), crate.problems(run.work)


def test_a_file_that_was_changed_and_one_that_is_gone_are_found(run):
    crate.write(run)
    (run.work / "figures" / "papl" / "a b.png").write_text("another")
    (run.work / "predictions" / "one.nii.gz").unlink()
    found = crate.problems(run.work)
    assert found == [
        "figures/papl/a%20b.png: not the size and SHA-256 that are stated",
        "predictions/one.nii.gz: no such file",
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"@graph": []}', '{"@context": 1, "@graph": [1]}'])
def test_what_is_no_record_is_said_to_be_none(tmp_path, text):
    (tmp_path / crate.NAME).write_text(text)
    assert crate.problems(tmp_path)


def test_a_run_without_a_finished_notebook_has_no_record():
    with pytest.raises(PipelineError, match="run strokelib reproduce --profile smoke"):
        crate.write(settings.resolve("smoke"))


def test_a_packed_crate_holds_the_models_too_and_holds_wherever_it_is_unpacked(run, tmp_path, capsys):
    target, there = tmp_path / "run.zip", tmp_path / "unpacked"
    assert cli.main(["crate", "--profile", "smoke", "--zip", str(target)]) == 0
    assert "problems: none" in capsys.readouterr().out
    with zipfile.ZipFile(target) as packed:
        packed.extractall(there)
    assert crate.problems(there) == []
    assert (there / "models" / KEY / "model.safetensors").read_text() == "weights"
    assert _entities(there)[f"models/{KEY}/papl-54767d40/metrics.csv"]["@type"] == "File"


def test_the_command_checks_without_writing_and_fails_where_the_record_does_not_hold(run, capsys):
    path = crate.write(run)
    before = path.stat().st_mtime_ns
    assert cli.main(["crate", "--profile", "smoke", "--check"]) == 0
    (run.work / "executed" / "00_start_here.ipynb").write_text("[]")
    assert cli.main(["crate", "--profile", "smoke", "--check"]) == 1
    assert path.stat().st_mtime_ns == before
    assert "executed/00_start_here.ipynb: not the size" in capsys.readouterr().out


def test_a_notebooks_stamp_says_when_it_ended(monkeypatch):
    s, begun = settings.resolve("smoke"), time.time()
    result = execution.Result("00_start_here", True, 0.1, 100.0, (), "")
    monkeypatch.setattr(pipeline, "run_notebook", lambda *_, **__: result)
    pipeline.run_step("00_start_here", s, engine="papermill", run="")
    stamp = json.loads((s.work / "stamps" / "papermill" / "00_start_here.json").read_text("utf-8"))
    assert begun <= stamp["ended"] <= time.time()


def test_outside_of_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(code_state, "project_root", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_state.code_state() == code_state.CodeState("unknown", "unknown")
