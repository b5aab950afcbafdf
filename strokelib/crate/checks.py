"""Does the record of a run hold? Rules of RO-Crate 1.1 and of Process Run Crate 0.5, and the files' hashes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from strokelib.crate.record import NAME, PROFILE, SPECIFICATION
from strokelib.repro import sha256

ROOT = "./"
NEEDED = ("name", "description", "datePublished", "license")
Graph = Mapping[str, Mapping[str, Any]]


def problems(folder: Path) -> list[str]:
    """Everything wrong with the crate in a folder, one line a problem; empty where it holds.

    Args:
        folder: The crate's root, which holds ``ro-crate-metadata.json``.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return [f"{NAME}: no such file"]
    try:
        document = json.loads(path.read_text("utf-8"))
        entities, contexts = document["@graph"], _listed(document["@context"])
    except (ValueError, KeyError, TypeError) as error:
        return [f"{NAME}: no JSON object with @context and @graph ({error!r})"]
    found = [] if f"{SPECIFICATION}/context" in contexts else [f"@context: {SPECIFICATION}/context is missing"]
    if not isinstance(entities, list) or not all(isinstance(one, dict) and "@id" in one for one in entities):
        return [*found, "@graph: not a list of entities with an @id"]
    graph = {one["@id"]: one for one in entities}
    if len(graph) != len(entities):
        found.append("@graph: an @id stands twice")
    if ROOT not in graph or NAME not in graph:
        return [*found, f"@graph: no {ROOT} or no {NAME}"]
    for rule in (_flat, _root, _references, _reachable, _actions):
        found += rule(graph)
    return [*found, *_files(graph, Path(folder))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _linked(entity: Mapping[str, Any], *names: str) -> list[str]:
    """Ids that an entity's properties refer to; all of its properties where none is named."""
    values = (value for name in (names or entity) for value in _listed(entity.get(name, [])))
    return [value["@id"] for value in values if isinstance(value, dict) and "@id" in value]


def _types(entity: Mapping[str, Any]) -> list[Any]:
    return _listed(entity.get("@type", []))


def _flat(graph: Graph) -> Iterator[str]:
    for key, entity in graph.items():
        if not _types(entity):
            yield f"{key}: no @type"
        for name, value in entity.items():
            if any(isinstance(one, list) or (isinstance(one, dict) and set(one) != {"@id"}) for one in _listed(value)):
                yield f"{key}: {name} holds more than values and references"


def _root(graph: Graph) -> Iterator[str]:
    descriptor, root = graph[NAME], graph[ROOT]
    if "CreativeWork" not in _types(descriptor) or _linked(descriptor, "about") != [ROOT]:
        yield f"{NAME}: not a CreativeWork about {ROOT}"
    if _linked(descriptor, "conformsTo") != [SPECIFICATION]:
        yield f"{NAME}: does not conform to {SPECIFICATION}"
    if "Dataset" not in _types(root):
        yield f"{ROOT}: not a Dataset"
    yield from (f"{ROOT}: no {name}" for name in NEEDED if not root.get(name))
    if "datePublished" in root and _moment(root["datePublished"]) is None:
        yield f"{ROOT}: datePublished is no ISO 8601 date"
    if PROFILE not in _linked(root, "conformsTo"):
        yield f"{ROOT}: does not conform to {PROFILE}"


def _moment(text: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _references(graph: Graph) -> Iterator[str]:
    """Every reference is described; the descriptor's own specification need not be."""
    for key, entity in graph.items():
        for other in _linked(entity):
            if other not in graph and not (key == NAME and other == SPECIFICATION):
                yield f"{key}: refers to {other}, which is not described"


def _reachable(graph: Graph) -> Iterator[str]:
    seen, waiting = {NAME}, [ROOT]
    while waiting:
        key = waiting.pop()
        if key in graph and key not in seen:
            seen.add(key)
            waiting += _linked(graph[key])
    yield from (f"{key}: nothing leads to it" for key in graph if key not in seen)


def _actions(graph: Graph) -> Iterator[str]:
    mentioned = set(_linked(graph[ROOT], "mentions"))
    actions = [(key, entity) for key, entity in graph.items() if "CreateAction" in _types(entity)]
    if not actions:
        yield "@graph: no CreateAction"
    for key, action in actions:
        if key not in mentioned:
            yield f"{key}: {ROOT} does not mention it"
        yield from (f"{key}: no {name}" for name in ("name", "instrument", "result") if not action.get(name))
        begun, ended = (_moment(action.get(name)) for name in ("startTime", "endTime"))
        if begun is None or ended is None or begun > ended:
            yield f"{key}: its times are no ISO 8601 times in order"


def _files(graph: Graph, folder: Path) -> Iterator[str]:
    """Every file is a part of the root, lies in the folder under its name, and has the stated size and hash."""
    parts = set(_linked(graph[ROOT], "hasPart"))
    yield from (f"{key}: a part, but no File or Dataset" for key in sorted(parts) if not _is_data(graph.get(key, {})))
    for key, entity in graph.items():
        if "File" not in _types(entity):
            continue
        if key not in parts:
            yield f"{key}: a File that {ROOT} does not have as a part"
        if urlparse(key).scheme or key.startswith(("/", "#")) or "\\" in key or ".." in key.split("/"):
            yield f"{key}: not a path below the crate's root"
            continue
        path = folder / unquote(key)
        if not path.is_file():
            yield f"{key}: no such file"
        elif str(path.stat().st_size) != entity.get("contentSize") or sha256(path) != entity.get("sha256"):
            yield f"{key}: not the size and SHA-256 that are stated"


def _is_data(entity: Mapping[str, Any]) -> bool:
    return bool({"File", "Dataset"} & set(_types(entity)))
