"""The pages in docs/: errata hold what the code says by their ids, and names, options and links in them exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from typing import Literal, get_args, get_origin

import pytest

from strokelib import manifest
from strokelib.settings import project_root

ROOT = project_root()
DOCS = ROOT / "docs"
COUNTS = {"papl": ("P", 39), "adn": ("A", 26), "ssl_nnunet": ("S", 36), "pseudo_dwi": ("W", 33)}
# Letters and numbers that are weights of a formula, not errata.
FORMULAE = {"strokelib/nn/excitation.py"}
PAGES = sorted(DOCS.rglob("*.md"))
ROW = re.compile(r"^\| ([PASW]\d+) \| (.+?) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
NAME = re.compile(r"[a-z_][\w]*(?:\.\w+)*")
CALL = re.compile(rf"({NAME.pattern})\((.+)\)", re.DOTALL)


def rows(paper):
    """Id -> cells of the errata page."""
    text = (DOCS / "errata" / f"{paper}.md").read_text("utf-8")
    return {one[0]: one[1:] for one in ROW.findall(text)}


def found(dotted, below="strokelib"):
    """The object of a name below a package, or of a whole name."""
    whole = dotted if dotted.startswith("strokelib.") else f"{below}.{dotted}"
    parts = whole.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not whole.startswith(error.name):
                raise
            continue
        for part in parts[length:]:
            thing = getattr(thing, part)
        return thing
    raise ModuleNotFoundError(whole)


def in_code(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("paper", COUNTS)
def test_a_page_has_every_erratum_once(paper):
    letter, last = COUNTS[paper]
    text = (DOCS / "errata" / f"{paper}.md").read_text("utf-8")
    lines = re.findall(r"^\| ([PASW]\d+) \|", text, re.MULTILINE)
    assert sorted(lines) == sorted(f"{letter}{number}" for number in range(1, last + 1))
    assert set(rows(paper)) == set(lines), "a line has another number of cells"


@pytest.mark.parametrize("paper", COUNTS)
def test_every_id_in_the_code_the_ledger_and_the_notebooks_of_a_paper_has_an_entry(paper):
    letter, _ = COUNTS[paper]
    ids, number = set(rows(paper)), re.compile(rf"\b{letter}\d{{1,2}}\b")
    said = {}
    for path in sorted((ROOT / "strokelib" / paper).rglob("*.py")):
        for text in strings_of(path):
            said.setdefault(path.name, set()).update(number.findall(text))
    assert sum(map(len, said.values())) > (0 if letter == "W" else 10)
    for row in manifest.equations().query("paper == @paper").itertuples():
        said[f"Eq. {row.number}"] = set(filter(None, row.errata.split(";")))
    for notebook in sorted((ROOT / "notebooks").glob(f"*_{paper}_*.ipynb")):
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        prose = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        said[notebook.name] = set(re.findall(rf"\(({letter}\d+)\)", prose))
    assert {name: sorted(of - ids) for name, of in said.items() if of - ids} == {}


@pytest.mark.parametrize("paper", COUNTS)
def test_an_entry_names_a_module_that_speaks_of_it(paper):
    letter, _ = COUNTS[paper]
    speaking = {}
    for path in sorted((ROOT / "strokelib" / paper).rglob("*.py")):
        for number in set(re.findall(rf"\b{letter}\d{{1,2}}\b", " ".join(strings_of(path)))):
            speaking.setdefault(number, set()).add(path.stem)
    for number, (_, here, by_name) in rows(paper).items():
        named = {name.split("(")[0].split(".")[0] for name in in_code(here + by_name)}
        assert number not in speaking or speaking[number] & named, number


@pytest.mark.parametrize("folder", ["nn", "methods", "data", "train", "metrics"])
def test_every_id_in_the_shared_layers_has_an_entry_in_its_paper_s_page(folder):
    ids = {name for paper in COUNTS for name in rows(paper)}
    for path in sorted((ROOT / "strokelib" / folder).rglob("*.py")):
        if path.relative_to(ROOT).as_posix() not in FORMULAE:
            for text in strings_of(path):
                assert set(re.findall(r"\((?:erratum |errata )?([PASW]\d{1,2})\)", text)) <= ids, path.name


def strings_of(path):
    """Docstrings, comments aside, and all other strings of a module."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("paper", COUNTS)
def test_what_a_page_names_in_the_code_exists(paper):
    checked = 0
    for number, (_, here, by_name) in rows(paper).items():
        for name in in_code(here):
            if "=" not in name and ("." in name or name in {"contrastive", "compensation", "pages"}):
                assert found(name, f"strokelib.{paper}") is not None, number
                checked += 1
        for call in in_code(by_name):
            assert CALL.fullmatch(call) or "=" not in call, f"{number}: {call}"
    assert checked >= 20


@pytest.mark.parametrize("paper", COUNTS)
def test_every_option_by_name_is_taken_and_is_not_the_default(paper):
    checked = 0
    for number, (_, _, by_name) in rows(paper).items():
        for call in in_code(by_name):
            match = CALL.fullmatch(call)
            if match is None:
                continue
            thing = found(match[1], f"strokelib.{paper}")
            (given,) = ast.parse(f"f({match[2]})", mode="eval").body.keywords
            parameter, value = inspect.signature(thing).parameters[given.arg], ast.literal_eval(given.value)
            assert value != parameter.default, f"{number}: {call} is the default"
            assert_taken(thing, parameter, value, f"{number}: {call}")
            checked += 1
    assert checked >= 10


def assert_taken(thing, parameter, value, said):
    """A word is one of a Literal's where the parameter has one, else it stands as a string in the thing's package."""
    if not isinstance(value, str):
        return
    annotation = vars(inspect.getmodule(thing)).get(parameter.annotation)
    if get_origin(annotation) is Literal:
        assert value in get_args(annotation), said
        return
    module = inspect.getmodule(thing).__name__.split(".")
    package = ROOT.joinpath(*module[: 2 if module[1] in COUNTS else -1])
    sources = [path for path in package.glob("*.py") if path.name != "recipe.py"]
    assert any(f'"{value}"' in path.read_text("utf-8") for path in sources), said


def test_ids_on_other_pages_are_errata():
    ids = {name for paper in COUNTS for name in rows(paper)}
    for name in ("reviewing.md", "teaching.md", "adding_a_method.md"):
        text = re.sub(r"```.*?```", "", (DOCS / name).read_text("utf-8"), flags=re.DOTALL)
        groups = re.findall(r"\(((?:[PASW]\d+(?:, |\)| to ))+)", text + ")")
        said = {one for group in groups for one in re.findall(r"[PASW]\d+", group)}
        assert said <= ids, name


def test_a_column_of_the_checklist_names_errata_of_its_own_paper():
    lines = [line for line in (DOCS / "reviewing.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    asked = [line.strip("| ").split(" | ") for line in lines if "---" not in line]
    asked = [cells for cells in asked if cells[0] != "question"]
    assert len(asked) >= 25
    for question, *cells in asked:
        assert len(cells) == 5, question
        for cell, (letter, _) in zip(cells, COUNTS.values(), strict=False):
            assert {one[0] for one in re.findall(r"\b[PASW]\d+\b", cell)} <= {letter}, question


def test_the_glossary_has_sixty_terms_in_order_and_what_it_names_exists():
    lines = [line for line in (DOCS / "glossary.md").read_text("utf-8").splitlines() if line.startswith("- ")]
    terms = [re.match(r"- \*\*(.+?)\*\*: ", line)[1] for line in lines]
    assert len(terms) == len(set(terms)) >= 60
    assert terms == sorted(terms, key=lambda term: term.lower().replace("-", ""))
    for line in lines:
        assert re.search(r"\[notebook \d\d\]\(\.\./notebooks/\d\d_\w+\.ipynb\)\.$", line), line
        for name in in_code(line):
            if "." in name:
                assert found(name) is not None, name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_has_five_reading_paths_that_lead_to_the_pages():
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## Reading paths\n")[1].split("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\.\*\*", section, re.MULTILINE) == [
        "I read",
        "I teach",
        "I review",
        "I run it on my data",
        "I add a method",
    ]
    linked = set(re.findall(r"\]\((docs/[^)]+)\)", section))
    wanted = {"docs/glossary.md", "docs/teaching.md", "docs/reviewing.md", "docs/adding_a_method.md"}
    assert wanted | {f"docs/errata/{paper}.md" for paper in COUNTS} <= linked
    anchors = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in headings(readme)}
    assert set(re.findall(r"\]\(#([^)]+)\)", section)) <= anchors


def headings(text):
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)
