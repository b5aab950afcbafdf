"""CITATION.cff and codemeta.json parse, and agree with pyproject.toml and with each other."""

import json
import re
import tomllib

import yaml

from strokelib.settings import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
CODEMETA = json.loads((ROOT / "codemeta.json").read_text("utf-8"))


def test_the_three_files_name_one_project_one_version_and_one_author():
    assert CODEMETA["name"] == PROJECT["name"]
    assert CITATION["title"].startswith(f"{PROJECT['name']}: ")
    assert CODEMETA["version"] == str(CITATION["version"]) == PROJECT["version"]
    authors = [author["name"] for author in PROJECT["authors"]]
    assert [author["name"] for author in CODEMETA["author"]] == authors
    assert [author["name"] for author in CITATION["authors"]] == authors
    assert CODEMETA["description"] == PROJECT["description"]
    assert CODEMETA["keywords"] == CITATION["keywords"] == PROJECT["keywords"]
    assert CODEMETA["runtimePlatform"] == f"Python {PROJECT['requires-python']}"


def test_the_licence_is_that_of_the_code_and_those_of_the_data():
    ids = PROJECT["license"].split(" AND ")
    assert CODEMETA["license"] == [f"https://spdx.org/licenses/{one}" for one in ids]
    # A list in CITATION.cff means "or": it names the code's alone, and the notes of the references those of the data.
    assert CITATION["license"] == ids[0] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("BSD 3-Clause")


def test_both_files_are_of_a_form_that_its_readers_know():
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(CITATION)
    assert all({"type", "title", "authors"} <= set(reference) for reference in CITATION["references"])
    assert CODEMETA["@context"] == "https://w3id.org/codemeta/3.0"
    assert CODEMETA["@type"] == "SoftwareSourceCode"
    assert (ROOT / CODEMETA["readme"]).is_file()


def test_both_files_cite_the_four_papers_in_one_wording():
    cited = {
        reference["title"]: reference.get("doi")
        for reference in CITATION["references"]
        if re.match(r"Key (papl|adn|ssl_nnunet|pseudo_dwi)\.", reference.get("notes", ""))
    }
    assert len(cited) == 4
    named = {one["name"]: one.get("@id") for one in CODEMETA["referencePublication"]}
    assert named == {title: doi and f"https://doi.org/{doi}" for title, doi in cited.items()}


def test_the_readme_names_the_four_papers_with_their_years_and_the_licences_that_the_files_name():
    readme = (ROOT / "README.md").read_text("utf-8")
    for reference in CITATION["references"]:
        if found := re.match(r"Key (papl|adn|ssl_nnunet|pseudo_dwi)\.", reference.get("notes", "")):
            (row,) = re.findall(rf"^\| `{found[1]}` \| (.+) \|$", readme, re.MULTILINE)
            assert reference["title"].casefold() in row.casefold()
            assert str(reference["year"]) in row
            assert row.startswith(reference["authors"][0]["family-names"])
    section = readme.split("## Licence and citation")[1]
    for licence in PROJECT["license"].split(" AND "):
        assert re.search(re.escape(licence).replace(r"\-", "[- ]"), section), licence
    assert "[CITATION.cff](CITATION.cff)" in section
