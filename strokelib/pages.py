"""The generated parts of the README: between two markers, written from the ledgers, the figures and the parser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from strokelib import tables
from strokelib.errors import PipelineError

SCOREBOARD, COMMANDS = "scoreboard", "commands"


def replaced(text: str, name: str, lines: Sequence[str]) -> str:
    """A page with other lines between ``<!-- name -->`` and ``<!-- /name -->``.

    Args:
        text: The page.
        name: Of the markers.
        lines: What stands between them; empty lines around it are added.

    Raises:
        PipelineError: The page does not have each marker once, in this order.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    at, end = text.find(first), text.find(last)
    if text.count(first) != 1 or text.count(last) != 1 or end < at:
        step = "restore the two markers in README.md"
        raise PipelineError("README.md", found="other markers", wanted=f"{first} before {last}", next_step=step)
    return "\n".join([text[:at] + first, "", *lines, "", text[end:]])


def scoreboard_lines(figures: Path) -> list[str]:
    """The scoreboard as it stands in the README: counts by paper, and all 54 rows in a fold.

    Args:
        figures: Folder of committed figures and tables.
    """
    board = tables.scoreboard(figures)
    lines = [*tables.scoreboard_summary(board), "", "<details>"]
    lines += [f"<summary>All {len(board)} tables and figures, published beside ours</summary>", ""]
    for paper, part in board.groupby("paper", sort=False):
        lines += [f"**{tables.PAPER_TITLES[paper]}**", "", *tables.scoreboard_rows(part, ""), ""]
    return [*lines, "</details>"]


def command_lines(commands: Mapping[str, tuple[str, str]]) -> list[str]:
    """The list of commands as it stands in the README.

    Args:
        commands: Command -> (what it does, an example).
    """
    lines = ["| command | what it does | example |", "| --- | --- | --- |"]
    return lines + [f"| `strokelib {name}` | {what} | `{example}` |" for name, (what, example) in commands.items()]


def readme(text: str, figures: Path, commands: Mapping[str, tuple[str, str]]) -> str:
    """The README with its generated parts as they should be.

    Args:
        text: The README as it is.
        figures: Folder of committed figures and tables.
        commands: As :func:`command_lines` takes them.
    """
    return replaced(replaced(text, SCOREBOARD, scoreboard_lines(figures)), COMMANDS, command_lines(commands))
