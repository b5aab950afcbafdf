"""docs/teaching.md: every worked answer runs as it stands, in its order, and prints what stands under it."""

import contextlib
import io
import json
import re

import pytest

from strokelib.settings import project_root

ROOT = project_root()
PAGE = (ROOT / "docs" / "teaching.md").read_text("utf-8")
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


@pytest.fixture(scope="module")
def printed():
    """What each snippet said, and what the page says that it says."""
    names, found = {"__name__": "teaching"}, []
    for code, said in BLOCK.findall(PAGE):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)  # the page's own code
        found.append((code, out.getvalue(), said))
    return found


def test_the_snippets_print_what_stands_under_them(printed):
    assert len(printed) >= 14
    for code, out, said in printed:
        assert out == said, code


def test_every_snippet_but_the_first_shows_something(printed):
    first, *others = printed
    assert not first[1]
    assert all(out for _, out, _ in others)


def exercises():
    """(notebook, number) of the answers on the page."""
    return re.findall(r"^\*\*(\d\d), exercise (\d+)\.\*\* \*", PAGE, re.MULTILINE)


def test_at_least_eight_exercises_are_answered_and_each_stands_in_its_notebook():
    answered = exercises()
    assert len(set(answered)) == len(answered) == 14
    assert "Fourteen of these are answered" in PAGE
    assert "fourteen worked answers" in (ROOT / "README.md").read_text("utf-8")
    for notebook, number in answered:
        (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
        cells = json.loads(path.read_text("utf-8"))["cells"]
        (asked,) = ("".join(cell["source"]) for cell in cells if cell["id"] == "exercises")
        assert re.search(rf"^{number}\. ", asked, re.MULTILINE), (notebook, number)


def test_the_answers_quote_their_exercise():
    """Half or more of the words in the question are those of the notebook."""
    for notebook, number, question in re.findall(r"^\*\*(\d\d), exercise (\d+)\.\*\* \*(.+?)\*$", PAGE, re.MULTILINE):
        (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
        cells = json.loads(path.read_text("utf-8"))["cells"]
        (asked,) = ("".join(cell["source"]) for cell in cells if cell["id"] == "exercises")
        own = re.split(r"^\d\. ", asked, flags=re.MULTILINE)[int(number)]
        words = [set(re.findall(r"\w+", text.lower())) for text in (question, own)]
        assert len(words[0] & words[1]) >= 0.5 * len(words[0]), (notebook, number)


def test_there_are_five_sessions_of_ninety_minutes():
    sessions = PAGE.split("\n## Session ")[1:]
    assert len(sessions) == 5
    for session in sessions:
        assert sum(int(m) for m in re.findall(r"^\| (\d+) \|", session, re.MULTILINE)) == 90
        assert "**Aims.**" in session
        assert "**Run.**" in session
        for name in re.findall(r"ONLY=([\w,]+)", session):
            assert all((ROOT / "notebooks" / f"{one}.ipynb").exists() for one in name.split(","))
