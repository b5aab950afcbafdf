"""The command line: every command is listed, grouped, documented in the README and shows an example that parses."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys

import pytest

from strokelib import cli, commands, pages, settings

README = (settings.project_root() / "README.md").read_text("utf-8")


def known() -> list[str]:
    """The commands that the parser itself accepts."""
    (action,) = (one for one in cli.parser()._actions if isinstance(one, argparse._SubParsersAction))
    return list(action.choices)


def test_the_readme_lists_exactly_the_parsers_commands():
    section = README.split(f"<!-- {pages.COMMANDS} -->")[1].split(f"<!-- /{pages.COMMANDS} -->")[0]
    assert sorted(re.findall(r"^\| `strokelib ([a-z-]+)` \|", section, re.MULTILINE)) == sorted(known())
    assert section.strip().splitlines() == pages.command_lines(commands.listed())


def test_each_command_stands_in_one_group_of_the_help_and_the_promised_ones_are_there():
    groups = commands.grouped()
    assert sorted(name for found in groups.values() for name in found) == sorted(known())
    assert {"check", "prepare", "train", "predict", "reproduce", "claims", "bench", "doctor"} <= set(known())
    text = cli.parser().format_help()
    for title, found in groups.items():
        block = text.split(f"\n{title}:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in block.splitlines()] == found


@pytest.mark.parametrize("name", known())
def test_the_help_of_a_command_says_what_it_does_and_ends_in_an_example_that_parses(name, capsys):
    part = commands.module(name)
    assert part.HELP[0].islower()
    assert not part.HELP.endswith(".")
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith(f"usage: strokelib {name} ")
    assert said.rstrip().endswith(part.EXAMPLE)
    program, *words = shlex.split(part.EXAMPLE)
    assert program == "strokelib"
    assert cli.parser().parse_args(words).command_module is part


def test_a_command_that_stands_in_no_group_is_listed_last(monkeypatch):
    monkeypatch.setattr(commands, "names", lambda: ["check", "unheard-of"])
    assert commands.grouped() == {"your scans": ["check"], commands.OTHERS: ["unheard-of"]}


def test_help_loads_neither_torch_nor_pandas():
    asked = "cli.parser().format_help(); print({'torch', 'pandas'} & set(sys.modules))"
    code = f"import sys; from strokelib import cli; {asked}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
