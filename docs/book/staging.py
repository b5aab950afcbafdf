"""The book's sources: the checkout's own pages and notebooks, copied, with chapters made from the list of notebooks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import reference

from strokelib.errors import PipelineError
from strokelib.repro import write_text
from strokelib.steps import STEPS
from strokelib.tables import PAPER_TITLES

# Files that a page may link to or show; copied as they are.
COPIED = ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "benchmarks/*.md", "docs/**/*.md", "figures/**/*")
COPIED += ("data_manifests/**/*", "notebooks/*.ipynb", "strokelib/assets/weights/*.md")
NEVER = ("docs/book/", ".ipynb_checkpoints/")
# First digit of a notebook's number -> its chapter, and the paper whose errata end it.
CHAPTERS = {
    "0": ("Data and baseline", None),
    "1": (PAPER_TITLES["pseudo_dwi"], "pseudo_dwi"),
    "2": (PAPER_TITLES["adn"], "adn"),
    "3": (PAPER_TITLES["ssl_nnunet"], "ssl_nnunet"),
    "4": (PAPER_TITLES["papl"], "papl"),
    "5": ("Across the papers", None),
    "9": ("Across the papers", None),
}
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def stage(root: Path, folder: Path) -> list[str]:
    """Write the sources of the book.

    Args:
        root: The checkout.
        folder: Where to; what is there and belongs to no page any more is removed, what is equal is left alone.

    Returns:
        Names of the pages without suffix, in the order of the book.

    Raises:
        PipelineError: A notebook of the list is missing or belongs to no chapter.
    """
    wanted = {path: (root / path).read_bytes() for path in _copied(root)}
    for name in [name for name in wanted if name.endswith(".md")]:
        text = _linked(wanted[name].decode("utf-8"), name, root)
        wanted |= {path: (root / path).read_bytes() for path in _outside(text, name, root) if path not in wanted}
        wanted[name] = text.encode()
    chapters = dict(_chapters(set(wanted)))
    front = wanted.pop("README.md").decode("utf-8")
    wanted["index.md"] = (front + "".join(map(_toctree, chapters, chapters.values()))).encode()
    wanted["figures/tables.md"] = _tables(sorted(wanted)).encode()
    for name, text in reference.pages(root / "strokelib").items():
        wanted[f"api/{name}"] = text.encode()
    _write(wanted, folder)
    return ["index", *(page for pages in chapters.values() for page in pages)]


def _copied(root: Path) -> Iterator[str]:
    for pattern in COPIED:
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not any(part in name for part in NEVER):
                yield name


def _linked(text: str, name: str, root: Path) -> str:
    """Links to the README lead to the front page, and links to a folder to its README."""

    def mended(match: re.Match) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(name), match[2]))
        if (root / target).is_dir():
            target = f"{target}/README.md"
        elif target != "README.md":
            return match[0]
        target = "index.md" if target == "README.md" else target
        return match[1] + os.path.relpath(target, os.path.dirname(name) or ".") + match[3]

    return LINK.sub(mended, text)


def _outside(text: str, name: str, root: Path) -> Iterator[str]:
    """Files of the checkout that a page links to; those that are no pages are offered as they are."""
    for _, target, _ in LINK.findall(text):
        path = os.path.normpath(os.path.join(os.path.dirname(name), target))
        if (root / path).is_file() and not path.endswith(".md"):
            yield path


def _chapters(there: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Caption and pages of each chapter."""
    yield "To begin with", _present(there, "docs/glossary.md", "docs/teaching.md", "docs/reviewing.md")
    chapters: dict[str, list[str]] = {}
    for step in STEPS:
        if f"notebooks/{step.name}.ipynb" not in there or step.name[0] not in CHAPTERS:
            found = "no file" if step.name[0] in CHAPTERS else "no chapter for its number"
            next_step = "add it to CHAPTERS in docs/book/staging.py, or to notebooks/"
            raise PipelineError(step.name, found=found, wanted="both", next_step=next_step)
        chapters.setdefault(CHAPTERS[step.name[0]][0], []).append(f"notebooks/{step.name}")
    for caption, paper in dict(CHAPTERS.values()).items():
        if caption in chapters:
            yield caption, chapters[caption] + ([f"docs/errata/{paper}"] if paper else [])
    yield "Results", [*_present(there, "figures/scoreboard.md", "figures/README.md"), "figures/tables"]
    known = {"glossary", "teaching", "reviewing"}
    guides = sorted(name for name in there if re.fullmatch(r"docs/[^/]+\.md", name) and Path(name).stem not in known)
    yield "Guides", [*_present(there, *guides), *_present(there, "CONTRIBUTING.md", "benchmarks/results.md")]
    manifests = sorted(name for name in there if re.fullmatch(r"data_manifests/.*README\.md", name))
    cards = sorted(name for name in there if name.startswith("strokelib/assets/weights/") and name.endswith(".md"))
    yield "Reference", ["api/index", *_present(there, *cards), *_present(there, *manifests)]


def _present(there: set[str], *names: str) -> list[str]:
    return [name.removesuffix(".md") for name in names if name in there]


def _toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def _tables(names: list[str]) -> str:
    """The page of all tables that are pages of their own."""
    lines = ["# Tables as pages", "", "Published beside ours, as the notebooks made them."]
    inside = [name for name in names if re.fullmatch(r"figures/\w+/\w+\.md", name)]
    for folder in sorted({name.split("/")[1] for name in inside}):
        said = PAPER_TITLES.get(folder, folder)
        pages = [name.removeprefix("figures/").removesuffix(".md") for name in inside if name.split("/")[1] == folder]
        lines += ["", f"## {said}", "", *(f"- [{page}]({page}.md)" for page in pages)]
        lines += ["", "```{toctree}", ":hidden:", "", *pages, "```"]
    return "\n".join([*lines, ""])


def _write(wanted: dict[str, bytes], folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, content.decode("utf-8")) if name.endswith((".md", ".rst")) else path.write_bytes(content)
