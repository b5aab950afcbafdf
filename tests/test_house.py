"""The house: declared packages, lock, conda environment, layers, sizes, and what must not stand in a file."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"torch": "pytorch"}
MODULES = sorted((ROOT / "strokelib").rglob("*.py"))
ASKED_FOR = ["jupyterlab", "papermill", "torch", "nibabel", "SimpleITK", "matplotlib", "seaborn"]
ASKED_FOR += ["scikit-learn", "statsmodels", "nbval"]


def _split(requirement):
    name, bound = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", requirement.strip()).groups()
    return name.lower().replace("_", "-"), bound


def _declared():
    extras = PROJECT["project"]["optional-dependencies"]
    return dict(_split(r) for group in (PROJECT["project"]["dependencies"], *extras.values()) for r in group)


def _locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_conda_environment_holds_the_packages_of_pyproject_and_ends_by_installing_this_one():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip["pip"][-1] == "-e ."
    found = dict(_split(r) for r in conda + pip["pip"][:-1])
    assert found.pop("python") == PROJECT["project"]["requires-python"]
    assert found.pop("pip") == ""
    assert "setuptools" + found.pop("setuptools") == PROJECT["build-system"]["requires"][0]
    assert found == {CONDA_NAMES.get(name, name): bound for name, bound in _declared().items()}


def test_the_lock_pins_every_declared_package_and_nothing_floats():
    locked = {name.lower().replace("_", "-"): version for name, version in _locked().items()}
    assert locked["torch"] == "2.13.0"
    assert set(_declared()) <= set(locked)
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.!]*", version) for version in locked.values())


def test_this_environment_is_the_locked_one():
    import importlib.metadata

    def public(version):
        return version.split("+")[0]

    differing = {n: v for n, v in _locked().items() if public(importlib.metadata.version(n)) != v}
    assert differing == {}


def test_torch_is_declared_without_an_index_or_a_build():
    assert "torch>=2.10" in PROJECT["project"]["dependencies"]
    assert "+cpu" not in (ROOT / "pyproject.toml").read_text() + (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("package", ASKED_FOR)
def test_each_package_of_the_design_card_is_declared_and_used(package):
    assert package.lower() in _declared()
    word = {"scikit-learn": "sklearn", "jupyterlab": "jupyter lab"}.get(package, package)
    places = [*MODULES, ROOT / "Makefile", *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "tests").rglob("test_*.py")]
    used = [p for p in places if p != Path(__file__) and word in p.read_text()]
    assert used, f"{package} is declared but nothing uses it"


def test_importing_the_package_loads_neither_torch_nor_any_other_package():
    code = "import sys; before = set(sys.modules); import strokelib; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded <= {"strokelib", "__future__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_module_is_short_and_named_for_what_it_holds(path):
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_docstring_with_a_source_states_its_deviation(path):
    for docstring in re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL):
        if re.search(r"^\s*Source: Eq", docstring, re.MULTILINE):
            assert "Deviation:" in docstring, docstring.splitlines()[0]


def test_no_tracked_file_is_large_or_names_a_path_of_a_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        assert path.stat().st_size <= 4 * 2**20, name
        if path.suffix in {".py", ".md", ".ipynb", ".csv", ".json", ".toml", ".yml", ".cff", ".lock"}:
            text = path.read_text("utf-8")
            assert str(ROOT) + "/" not in text, name
            assert str(Path.home()) + "/" not in text, name


def test_the_citation_file_names_the_four_papers_and_the_data():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    notes = " ".join(r.get("notes", "") for r in citation["references"])
    assert all(f"Key {key}." in notes for key in ("papl", "adn", "ssl_nnunet", "pseudo_dwi"))
    assert sum(r["type"] == "data" for r in citation["references"]) >= 3


def test_the_readme_lists_every_notebook_with_its_title_and_time():
    from strokelib.steps import STEPS

    readme = (ROOT / "README.md").read_text()
    for step in STEPS:
        row = f"| [{step.name}](notebooks/{step.name}.ipynb) | {step.title} | {step.minutes['demo']:g} min |"
        assert row in readme


def test_every_relative_link_of_the_readme_and_the_pages_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "figures").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
