"""From a run back into the checkout: figures copied last, notebooks refreshed from their executed copies."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from strokelib import gallery, pages
from strokelib.errors import PipelineError
from strokelib.execution import notebook_path
from strokelib.pipeline import default_settings
from strokelib.repro import atomic_path, code_hash, write_text
from strokelib.settings import Settings, project_root
from strokelib.steps import STEPS

ALLOWED_OUTPUTS = {"text/plain", "text/markdown", "image/png"}
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
MAX_NOTEBOOK_BYTES = 500_000
LARGE_PICTURE = 34_000  # characters of an encoded picture


def copy_figures(settings: Settings) -> list[str]:
    """Copy a demo run's figures, tables and sidecars to ``figures/``; files that are equal are left alone.

    Returns:
        Names of the files that changed; nothing is copied for any other profile, cohort, seed or data.
    """
    source, changed = settings.work / "figures", []
    if not default_settings(settings):
        return changed
    for path in sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith(".")):
        target = settings.figures / path.relative_to(source)
        if not target.is_file() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
            changed.append(path.relative_to(source).as_posix())
    return changed


def write_pages(settings: Settings, commands: Mapping[str, tuple[str, str]]) -> list[str]:
    """Write what is generated in the checkout: the gallery, and the README's scoreboard and list of commands.

    Args:
        settings: Of the run whose figures were copied last.
        commands: Command -> (what it does, an example), for the README.

    Returns:
        Names of the pages that changed; nothing is written for a run whose figures are not the committed ones.
    """
    if not default_settings(settings):
        return []
    readme, root = settings.figures.parent / "README.md", settings.figures.parent
    wanted = {
        settings.figures / "README.md": gallery.page(settings.figures),
        readme: pages.readme(readme.read_text("utf-8"), settings.figures, commands),
    }
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        write_text(path, wanted[path])
    return [path.relative_to(root).as_posix() for path in changed]


def cleaned(executed: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """An executed copy without what an executor left in it: same cells and ids, outputs of text and PNG only.

    Raises:
        PipelineError: An output holds an error, another kind of data or an absolute path of this machine.
    """
    cells = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    count = 0
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = _joined([_cleaned_output(o, count, f"{name}, cell {cell.id}") for o in cell.outputs])
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def _joined(outputs: list[Any]) -> list[Any]:
    """Neighbouring pieces of one stream as one: where a kernel cuts its text differs from run to run."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _with_256_colours(encoded: str) -> str:
    """A page's picture, mostly grey, with a palette of 256 colours: a third of the bytes, hardly a change."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(encoded))) as opened:
        plain = Image.new("RGB", opened.size, "white")
        plain.paste(opened, mask=opened.getchannel("A") if "A" in opened.getbands() else None)
    small, buffer = plain.quantize(256, dither=Image.Dither.NONE), io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def _cleaned_output(output: Any, count: int, place: str) -> Any:
    if output.output_type == "error":
        raise PipelineError(place, found="an error in its output", wanted="none", next_step="mend it and run again")
    if output.output_type == "stream":
        if output.name != "stdout":
            raise PipelineError(
                place, found=f"{output.name}: {output.text[:200]}", wanted="stdout only", next_step="mend the cell"
            )
        text = output.text
    else:
        output.data = nbformat.NotebookNode({k: v for k, v in output.data.items() if k in ALLOWED_OUTPUTS})
        if len(output.data.get("image/png", "")) > LARGE_PICTURE:
            output.data["image/png"] = _with_256_colours(output.data["image/png"])
        output.metadata = nbformat.NotebookNode({})
        text = output.data.get("text/plain", "")
        if output.output_type == "execute_result":
            output.execution_count = count
    for private in {str(project_root()), str(Path.home()), os.path.realpath(project_root())}:
        if re.search(re.escape(private) + r"(?![\w-])", text):
            raise PipelineError(
                place, found="an absolute path in its output", wanted="none", next_step="print a relative name"
            )
    return output


def refresh_notebooks(settings: Settings) -> list[str]:
    """Write the executed copies' outputs into the committed notebooks; returns the names of those that changed.

    Raises:
        PipelineError: An executed copy is missing or older than its notebook's code, or would be too large.
    """
    changed = []
    for step in STEPS:
        target, executed = notebook_path(step.name), settings.work / "executed" / f"{step.name}.ipynb"
        if not executed.is_file() or code_hash(executed) != code_hash(target):
            found = "no executed copy of its present code"
            raise PipelineError(
                step.name, found=found, wanted="one from the demo profile", next_step="run make reproduce"
            )
        notebook = cleaned(nbformat.read(executed, as_version=4), step.name)
        committed = nbformat.read(target, as_version=4)
        for new, old in zip(notebook.cells, committed.cells, strict=True):
            new.source, new.id = old.source, old.id
            if "tags" in old.metadata:
                new.metadata["tags"] = old.metadata["tags"]
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if len(text.encode()) > MAX_NOTEBOOK_BYTES:
            found = f"{len(text.encode())} bytes"
            raise PipelineError(
                step.name, found=found, wanted=f"at most {MAX_NOTEBOOK_BYTES}", next_step="draw smaller figures"
            )
        before = target.read_bytes()
        write_text(target, text)
        changed += [step.name] if before != text.encode() else []
    return changed


def report(records: list[dict[str, Any]]) -> str:
    """The closing table: notebook, time, peak memory, artefacts made."""
    lines = [f"{'notebook':<34}{'time':>9}{'peak memory':>14}  artefacts made"]
    for r in records:
        time = f"{r['seconds']:.0f} s" if r["ran"] else "cached"
        first, *rest = r["artefacts"] or ["none"]
        lines.append(f"{r['name']:<34}{time:>9}{r['peak_mb']:>11.0f} MB  {first}")
        lines += [f"{'':<59}{name}" for name in rest]
    return "\n".join(lines)
