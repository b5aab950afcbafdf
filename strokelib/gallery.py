"""The gallery ``figures/README.md``: every committed figure and table by notebook, written from their sidecars.

A caption is the sidecar's ``caption`` where it has one, else what the ledger says of a paper's table or figure, else
what the notebook says where it saves it: the section's heading and the first words above the code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from strokelib import manifest
from strokelib.errors import ManifestError
from strokelib.execution import notebook_path
from strokelib.repro import sha256
from strokelib.steps import BY_NAME, STEPS, Step

WIDTH = 420  # pixels of a picture on the page
PICTURE, SIDECAR = ".png", ".json"
ENOUGH = 60  # characters of a caption
RESULT = "The result"
NO_PROSE = ("#", "|", "*", "-", "$$", "```")  # how headings, tables, lists, formulas and code begin
LINK = re.compile(r"!?\[([^\]]+)\]\([^)]+\)")
HEADING = re.compile(r"^#{2,}\s+(?:\d+\s*·\s*)?(.+)$", re.MULTILINE)
Record = Mapping[str, Any]


def records(figures: Path) -> dict[str, Record]:
    """Sidecar of each figure, table and page, by its name below the folder, in the order of names.

    Args:
        figures: Folder of committed figures and tables.

    Raises:
        ManifestError: A file has no sidecar, or is not the one that its sidecar describes.
    """
    found: dict[str, Record] = {}
    for path in sorted(p for p in figures.rglob("*") if p.is_file() and p.suffix != SIDECAR):
        name, sidecar = path.relative_to(figures).as_posix(), path.with_name(path.name + SIDECAR)
        if name == "README.md" or name.startswith("."):
            continue
        record = json.loads(sidecar.read_text("utf-8")) if sidecar.is_file() else {}
        if record.get("sha256", {}).get(path.name) != sha256(path):
            state, wanted = "a file that its sidecar does not describe", "file and sidecar of one run"
            raise ManifestError(f"figures/{name}", found=state, wanted=wanted, next_step="run make reproduce")
        found[name] = record
    return found


def said_in(notebook: Path, stem: str) -> str:
    """What a notebook says where its code names an artefact; empty where no code does.

    Args:
        notebook: The notebook's file.
        stem: Name of the artefact below ``figures/`` without suffix, e.g. ``papl/comparison``.

    Returns:
        Heading of the section, a colon and the first words of the text above the code; one of both where the other
        is not there or is only called the result.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    for name in (f'"{stem}"', f'"{stem.rsplit("/", 1)[-1]}"'):
        heading, text = "", ""
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                heading = (HEADING.findall(source) or [heading])[-1]
                text = _first_words(source)
            elif cell["cell_type"] == "code" and name in source:
                return " ".join(_sentence(part) for part in (heading, text) if part not in ("", RESULT))
    return ""


def _first_words(source: str) -> str:
    """First sentences of a Markdown cell's first paragraph, ``ENOUGH`` characters or more; links lose their targets."""
    paragraphs = [part for part in re.split(r"\n\s*\n", source) if not part.lstrip().startswith(NO_PROSE)]
    if not paragraphs:
        return ""
    sentences = re.split(r"(?<=[.?!])\s+", LINK.sub(r"\1", " ".join(paragraphs[0].split())))
    words = ""
    while sentences and len(words) < ENOUGH:
        words = f"{words} {sentences.pop(0)}".strip()
    return words.rstrip(":;,")


def _sentence(words: str) -> str:
    """The words with a full stop, where they have none."""
    return words + ("" if words.endswith((".", "?", "!", ".**")) else ".")


def _title(step: Step) -> str:
    return _sentence(step.title[0].upper() + step.title[1:])


def captions(found: Mapping[str, Record]) -> dict[str, tuple[str, str]]:
    """Name and caption of each artefact, by its name below ``figures/`` without suffix.

    Args:
        found: From :func:`records`.
    """
    ledger = manifest.artefacts()
    printed = {str(Path(row.output).with_suffix("")).removeprefix("figures/"): row for row in ledger.itertuples()}
    said = {}
    for file, record in found.items():
        stem = str(Path(file).with_suffix(""))
        if row := printed.get(stem):
            number = f" {row.number}" if row.number else ""
            name, caption = f"{row.kind.capitalize()}{number} ({row.paper})", row.caption
        else:
            folder, _, name = stem.rpartition("/")
            name = ": ".join(filter(None, (folder, name.replace("_", " "))))
            caption = said_in(notebook_path(record["notebook"]), stem) or _title(BY_NAME[record["notebook"]])
        said[stem] = (name, record.get("caption") or caption)
    return said


def _entry(files: Iterable[str], found: Mapping[str, Record], said: tuple[str, str]) -> list[str]:
    """Lines of one artefact: its name, its picture where there is one, its caption, status and files."""
    files = sorted(files, key=lambda name: (not name.endswith(PICTURE), not name.endswith(".md"), name))
    record, (name, caption) = found[files[0]], said
    made = f"{record['cohort']} ({record['data']}), {record['profile']}, seed {record['seed']}"
    status = f"**{record['status']}** · " if "status" in record else ""
    links = " · ".join(f"[{Path(file).suffix[1:]}]({file})" for file in files)
    lines = [f"### {name}", ""]
    if files[0].endswith(PICTURE):
        lines += [f'<img src="{files[0]}" width="{WIDTH}" alt="{escape(name)}">', ""]
    lines += [_sentence(caption), ""]
    return [*lines, f"{status}{made} · {links} · [provenance]({files[0]}{SIDECAR})", ""]


def page(figures: Path) -> str:
    """The gallery as Markdown; links are relative to the folder.

    Args:
        figures: Folder of committed figures and tables.

    Raises:
        ManifestError: A file does not match its sidecar, or was made by a notebook that the book does not have.
    """
    found = records(figures)
    if strange := sorted({record["notebook"] for record in found.values()} - set(BY_NAME)):
        step = "delete its figures, or add the notebook to strokelib/steps.py"
        raise ManifestError("gallery", found=f"figures of {strange}", wanted="notebooks of the book", next_step=step)
    said = captions(found)
    lines = ["# Gallery", "", f"{len(said)} figures and tables in {len(found)} files, by the notebook that makes them."]
    lines += [
        "Written at the end of `make reproduce` from the files and their sidecars; nothing is typed by hand. What"
    ]
    lines += ["the papers' own tables and figures came to stands on the [scoreboard](scoreboard.md).", ""]
    for step in STEPS:
        own = [name for name, record in found.items() if record["notebook"] == step.name]
        stems = dict.fromkeys(str(Path(name).with_suffix("")) for name in own)
        if not stems:
            continue
        lines += [f"## [{step.name}](../notebooks/{step.name}.ipynb)", "", _title(step), ""]
        for stem in stems:
            lines += _entry([n for n in own if str(Path(n).with_suffix("")) == stem], found, said[stem])
    return "\n".join(lines)
