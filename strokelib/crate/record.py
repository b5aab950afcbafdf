"""The record of a run as an RO-Crate: what went in, which code ran with which parameters, and what came out.

Written as ``ro-crate-metadata.json`` into the run's folder, after the RO-Crate Metadata Specification 1.1 and the
profile Process Run Crate 0.5. Outputs in the folder are data entities with their SHA-256 and size. What lies outside
(ledgers, shipped data, models that runs share) is described with its SHA-256, but is no part of the crate, since a
crate names no path outside itself; :func:`pack` takes the models in. Who ran it is not recorded.
"""

from __future__ import annotations

import datetime
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from strokelib import gallery, manifest
from strokelib.crate.code_state import code_state
from strokelib.errors import PipelineError
from strokelib.execution import notebook_path
from strokelib.repro import atomic_path, sha256, versions, write_text
from strokelib.settings import Settings, assets_dir, manifests_dir, project_root
from strokelib.steps import STEPS, Step

NAME = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = [
    f"{SPECIFICATION}/context",
    {"sha256": "http://schema.org/sha256", "resourceUsage": "https://w3id.org/ro/terms/workflow-run#resourceUsage"},
]
OUTPUTS = ("figures", "executed", "predictions")
MODEL_FILES = ("model.safetensors", "trained.json", "history.csv")
MEDIA = {
    ".png": "image/png", ".csv": "text/csv", ".md": "text/markdown", ".json": "application/json",
    ".ipynb": "application/x-ipynb+json", ".gz": "application/gzip",
}  # fmt: skip
Entity = dict[str, Any]


def _refs(ids: Iterable[str]) -> list[Entity]:
    return [{"@id": one} for one in ids]


def _file(path: Path, name: str, kind: str = "File", **facts: Any) -> Entity:
    """A file as an entity; ``kind`` is File in the crate and CreativeWork outside of it."""
    media = {"encodingFormat": MEDIA[path.suffix]} if path.suffix in MEDIA else {}
    size = str(path.stat().st_size)
    about = {"@id": quote(name, safe="/#"), "@type": kind, "name": path.name, "contentSize": size}
    return {**about, "sha256": sha256(path), **media, **facts}


def _value(identifier: str, name: str, value: object, **facts: Any) -> Entity:
    return {"@id": identifier, "@type": "PropertyValue", "name": name, "value": str(value), **facts}


def _project() -> dict[str, Any]:
    return json.loads((project_root() / "codemeta.json").read_text("utf-8"))


def _about(project: Mapping[str, Any]) -> tuple[list[Entity], list[str], list[str]]:
    """Authors, licences and papers as entities; ids of the licences; ids of the papers."""
    licences = [{"@id": url, "@type": "CreativeWork", "name": url.rsplit("/", 1)[-1]} for url in project["license"]]
    papers = [
        {"@id": one.get("@id", f"#paper-{number}"), "@type": one["@type"], "name": one["name"]}
        for number, one in enumerate(project["referencePublication"], 1)
    ]
    authors = [{"@id": "#authors", "@type": one["@type"], "name": one["name"]} for one in project["author"]]
    return [*authors, *licences, *papers], [one["@id"] for one in licences], [one["@id"] for one in papers]


def _code(project: Mapping[str, Any]) -> list[Entity]:
    """The program: its version, its commit, the hash of its lock file and the versions that results depend on."""
    state, lock = code_state(), project_root() / "requirements.lock"
    values = [
        _value("#commit", "git commit", state.commit),
        _value("#changed", "files changed since that commit", state.changed),
        *(_value(f"#version-{name}", f"version of {name}", version) for name, version in versions().items()),
    ]
    facts = {"softwareVersion": project["version"], "license": {"@id": project["license"][0]}}
    program = {"@id": "#strokelib", "@type": "SoftwareApplication", "name": project["name"], **facts}
    program |= {"author": {"@id": "#authors"}, "identifier": {"@id": "#commit"}}
    program["softwareRequirements"] = {"@id": "#requirements.lock"}
    program["additionalProperty"] = _refs(value["@id"] for value in values[1:])
    return [program, *values, _file(lock, "#requirements.lock", "CreativeWork")]


def _inputs() -> list[Entity]:
    """Two collections, the ledgers and the shipped data, and their files."""
    ledgers = sorted(path for path in manifests_dir().rglob("*") if path.is_file() and ".csv" in path.suffixes)
    files = [_file(p, f"#data_manifests/{p.relative_to(manifests_dir()).as_posix()}", "CreativeWork") for p in ledgers]
    shipped = [
        _file(
            assets_dir() / row.path, f"#assets/{row.path}", "CreativeWork", description=f"{row.source}; {row.licence}"
        )
        for row in manifest.read("assets").itertuples()
    ]
    collections = (("#data_manifests", "ledgers, lists of cases and published numbers", files),)
    collections += (("#assets", "shipped real data", shipped),)
    made = [
        {"@id": key, "@type": "Collection", "name": name, "hasPart": _refs(one["@id"] for one in parts)}
        for key, name, parts in collections
    ]
    return [*made, *files, *shipped]


def _model_files(folder: Path) -> dict[str, Path]:
    """Name below ``models/`` -> file: a training's weights, how it was trained, its curves and its scores."""
    files = [path for name in MODEL_FILES if (path := folder / name).is_file()]
    files += sorted(path for path in folder.glob("*/metrics.csv") if path.is_file())
    return {f"{folder.name}/{path.relative_to(folder).as_posix()}": path for path in files}


def _model(folder: Path, packed: bool) -> list[Entity]:
    """A training as a collection of its files."""
    facts = json.loads((folder / "trained.json").read_text("utf-8")) if (folder / "trained.json").is_file() else {}
    start, kind = ("models", "File") if packed else ("#models", "CreativeWork")
    parts = [_file(path, f"{start}/{name}", kind) for name, path in _model_files(folder).items()]
    told = ", ".join(f"{key} {facts[key]}" for key in ("method", "cohort", "seed", "steps") if key in facts)
    model = {"@id": f"#model-{folder.name}", "@type": "Collection", "name": folder.name}
    return [{**model, "description": told or "a training", "hasPart": _refs(p["@id"] for p in parts)}, *parts]


def models_of(settings: Settings) -> dict[str, list[str]]:
    """Notebook -> names of the folders in ``runs/models`` that its figures and tables were made from.

    Args:
        settings: Of the run.
    """
    there, found = settings.runs / "models", {}
    for record in gallery.records(settings.work / "figures").values():
        names = (name for name in record.get("inputs", {}).values() if isinstance(name, str))
        used = sorted({name for name in names if name and (there / name).is_dir()})
        found[record["notebook"]] = sorted({*found.get(record["notebook"], ()), *used})
    return found


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _action(step: Step, settings: Settings, results: list[str], models: Iterable[str]) -> list[Entity]:
    """One notebook's run, the notebook, and the memory it took."""
    stamp = settings.work / "stamps" / "papermill" / f"{step.name}.json"
    record = json.loads(stamp.read_text("utf-8"))
    ended = record.get("ended") or stamp.stat().st_mtime  # stamps of earlier versions do not say when
    times = {"startTime": _moment(ended - record["seconds"]), "endTime": _moment(ended)}
    given = f"--profile {settings.profile.value} --cohort {settings.cohort} --seed {settings.seed}"
    memory = _value(f"#memory-{step.name}", "peak memory", round(record["peak_mb"]), unitText="MB")
    source = _file(notebook_path(step.name), f"#notebooks/{step.name}.ipynb", "SoftwareSourceCode")
    source |= {"name": step.name, "description": step.title, "programmingLanguage": "Python"}
    action = {"@id": f"#run-{step.name}", "@type": "CreateAction", "name": f"run of {step.name}", **times}
    action |= {"description": f"strokelib run-notebook {step.name} {given}", "resourceUsage": {"@id": memory["@id"]}}
    action |= {"instrument": _refs([source["@id"], "#strokelib"]), "result": _refs(results)}
    taken = ["#profile", "#cohort", "#seed", "#data", "#data_manifests", "#assets", *(f"#model-{m}" for m in models)]
    action |= {"object": _refs(taken), "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"}}
    return [action, source, memory]


def _outputs(settings: Settings) -> dict[str, Path]:
    """Name in the crate -> file, of all that the run left for a reader."""
    paths = (p for folder in OUTPUTS for p in sorted((settings.work / folder).rglob("*")))
    return {p.relative_to(settings.work).as_posix(): p for p in paths if p.is_file() and not p.name.startswith(".")}


def _maker(name: str, artefacts: Mapping[str, Mapping[str, Any]]) -> str:
    """The notebook that made an output; empty for what only a notebook's cell knows."""
    folder, _, rest = name.partition("/")
    if folder == "executed":
        return rest.removesuffix(".ipynb")
    return artefacts.get(rest.removesuffix(".json"), {}).get("notebook", "") if folder == "figures" else ""


def build(settings: Settings, packed: bool = False) -> dict[str, Any]:
    """The metadata of a run.

    Args:
        settings: Of the run.
        packed: Whether the models lie in the crate, as :func:`pack` puts them there.

    Returns:
        JSON-LD: ``@context`` and a flat ``@graph``.

    Raises:
        PipelineError: No notebook of this run is done.
    """
    stamps = {path.stem for path in (settings.work / "stamps" / "papermill").glob("*.json")}
    if not (steps := [step for step in STEPS if step.name in stamps]):
        found, step = "no notebook that is done", f"run strokelib reproduce --profile {settings.profile.value}"
        raise PipelineError("run folder", found=found, wanted="one or more", next_step=step)
    artefacts, models = gallery.records(settings.work / "figures"), models_of(settings)
    outputs = {name: _file(path, name) for name, path in _outputs(settings).items()}
    actions: list[Entity] = []
    for step in steps:
        results = [one["@id"] for name, one in outputs.items() if _maker(name, artefacts) == step.name]
        actions += _action(step, settings, results, models.get(step.name, ()))
    used = sorted({name for step in steps for name in models.get(step.name, ())})
    trained = [one for name in used for one in _model(settings.runs / "models" / name, packed)]
    return {"@context": CONTEXT, "@graph": _graph(settings, list(outputs.values()), actions, trained)}


def _graph(settings: Settings, outputs: list[Entity], actions: list[Entity], trained: list[Entity]) -> list[Entity]:
    project = _project()
    about, licences, papers = _about(project)
    runs = [one for one in actions if one["@type"] == "CreateAction"]
    parts = [*outputs, *(one for one in trained if one["@type"] == "File")]
    descriptor = {"@id": NAME, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": SPECIFICATION}}
    root = {"@id": "./", "@type": "Dataset", "name": f"{project['name']}: {settings.describe()}"}
    root["description"] = f"{len(runs)} notebooks, run; {project['description']}. Not for clinical use."
    root["datePublished"] = max(one["endTime"] for one in runs)
    root |= {"license": _refs(licences), "author": {"@id": "#authors"}, "citation": _refs(papers)}
    root |= {"conformsTo": {"@id": PROFILE}, "hasPart": _refs(one["@id"] for one in parts)}
    root["mentions"] = _refs(
        [one["@id"] for one in runs] + [one["@id"] for one in trained if one["@type"] == "Collection"]
    )
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    ended = {"@id": "http://schema.org/CompletedActionStatus", "@type": "ActionStatusType", "name": "completed"}
    parameters = [
        _value("#profile", "profile", settings.profile.value),
        _value("#cohort", "cohort", settings.cohort),
        _value("#seed", "seed", settings.seed),
        _value("#data", "data", settings.source),
    ]
    return [
        descriptor,
        root,
        profile,
        ended,
        *about,
        *_code(project),
        *parameters,
        *_inputs(),
        *actions,
        *trained,
        *outputs,
    ]


def _text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


def write(settings: Settings) -> Path:
    """Write the metadata of a run into its folder; returns the file."""
    return write_text(settings.work / NAME, _text(build(settings)))


def _packed(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield from _outputs(settings).items()
    there = settings.runs / "models"
    for name in sorted({name for used in models_of(settings).values() for name in used}):
        yield from ((f"models/{inside}", path) for inside, path in _model_files(there / name).items())


def pack(settings: Settings, target: str | Path) -> int:
    """Write the run's outputs, the models they were made from and the metadata of both into one file.

    Args:
        settings: Of the run.
        target: The ZIP file; written whole or not at all.

    Returns:
        How many files it holds beside the metadata.
    """
    files = dict(_packed(settings))
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packing:
        packing.writestr(NAME, _text(build(settings, packed=True)))
        for name, path in files.items():
            packing.write(path, name)
    return len(files)
