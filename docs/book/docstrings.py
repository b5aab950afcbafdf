"""The house's docstrings as reStructuredText: formulae keep their lines, Source and Deviation are paragraphs."""

from __future__ import annotations

import re

SECTION = re.compile(r"(?:Args|Returns|Raises|Yields|Attributes|Example|Examples):\s*")
NAMED = re.compile(r"(Source|Deviation): *(.*)")
BULLET = re.compile(r"(?:[-*]|\d+\.) ")
RULE = re.compile(r"=+( +=+)+")
LITERAL = re.compile(r"(``[^`]+``|:\w+:`[^`]+`)")
STARRED = re.compile(r"(?<![\w*])(\*{1,2})(?=\S)([^*]+?)(?<=\S)\1(?![\w*])")


def signed(app, what, name, obj, options, signature, returned):
    """For `autodoc-process-signature`: `...` for a factory's default; Sphinx cannot read Python's `<factory>`."""
    return (signature.replace("<factory>", "..."), returned) if signature and "<factory>" in signature else None


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Sphinx's hook: changes the lines in place."""
    lines[:] = converted(lines)


def converted(lines: list[str]) -> list[str]:
    """One docstring, its common indentation already taken away.

    Args:
        lines: Without line ends.

    Returns:
        Its lines as reStructuredText, for napoleon to make the Google sections of.
    """
    made: list[tuple[bool, str]] = []  # (to be escaped, line)
    state = "text"
    for line in lines:
        state = _taken(line, state, made)
    return _escaped(made)


def _taken(line: str, state: str, made: list[tuple[bool, str]]) -> str:
    """Append one line; returns the state after it: text, list, named, section, block (a formula) or table."""
    before = made[-1][1] if made else ""
    if RULE.fullmatch(line) or (state == "table" and line):
        made.append((False, line))
        return "table"
    if not line.strip():
        made.append((False, ""))
        return state if state in ("section", "block", "list") else "text"
    if not line[0].isspace():
        return _at_the_margin(line, before, made)
    if state == "named":
        made.append((True, line.strip()))
    elif state in ("section", "list"):
        made.append((True, line))
    else:
        if state == "text" and not before.endswith("::") and not (before == "" and _announced(made)):
            made += [(False, text) for text in ([""] if before else []) + ["::", ""]]
        elif state == "text" and before:
            made.append((False, ""))
        made.append((False, line))
        return "block"
    return state


def _announced(made: list[tuple[bool, str]]) -> bool:
    """Whether the last line that is not empty ends with two colons, which announce a literal block."""
    return next((line.endswith("::") for _, line in reversed(made) if line), False)


def _at_the_margin(line: str, before: str, made: list[tuple[bool, str]]) -> str:
    if SECTION.fullmatch(line):
        made += [(False, text) for text in ([""] if before else []) + [line]]
        return "section"
    apart = [(False, "")] if before else []
    if named := NAMED.match(line):
        made += [*apart, (True, f"**{named[1]}.** {named[2]}")]
        return "named"
    if bullet := BULLET.match(line):
        beside = BULLET.match(before) or before.startswith(" ")
        made += [*([] if beside else apart), (True, f"{bullet[0]}\1{line[bullet.end() :]}")]
        return "list"
    made += [*(apart if before.startswith(" ") else []), (True, line)]
    return "text"


def _escaped(made: list[tuple[bool, str]]) -> list[str]:
    """Runs of lines escaped together, since a literal may go on in the next line."""
    lines: list[str] = []
    run: list[str] = []
    for wanted, line in [*made, (False, "")]:
        if wanted:
            run.append(line)
            continue
        lines += escaped("\n".join(run)).split("\n") if run else []
        run = []
        lines.append(line)
    return lines[:-1]


def escaped(text: str) -> str:
    """A text whose stars, bars and last underscores mean themselves; literals, roles and emphasis stay.

    Args:
        text: One paragraph. A bullet's star is marked by the control character 1 after its space.

    Returns:
        The same, escaped outside of double backticks.
    """
    parts = LITERAL.split(text)
    return "".join(part if index % 2 else _plain(part) for index, part in enumerate(parts))


def _plain(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text).replace("* \1", "\0 ")
    text = STARRED.sub(lambda found: found[0].replace("*", "\0"), text)
    return text.replace("*", "\\*").replace("\0", "*").replace("\1", "")
