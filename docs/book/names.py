"""Names that lead to their pages: of classes in signatures, as their module imports them, and of notebooks in code."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

from strokelib.steps import BY_NAME

LOGGER = logging.getLogger(__name__)
INSIDE = "strokelib"


def resolve(app, doctree) -> None:
    """Sphinx's hook: give each name its whole one; a short name of a signature that is unknown is no link."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("refdomain") != "py":
            continue
        target, module = node["reftarget"], node.get("py:module") or ""
        whole = origin(module, target) if "." not in target else _through(target, module)
        if whole:
            node["reftarget"] = whole
        elif "refspecific" in node and "." not in target:  # from a signature, not a role that somebody wrote
            node.replace_self([nodes.inline("", "", *node.children)])


def missing(app, env, node, contnode) -> None:
    """Sphinx's hook: a role that names what does not exist is a fault; a constant, which has no entry, is none."""
    target = node["reftarget"]
    if node.get("refdomain") != "py" or "refspecific" in node:
        return
    inside = filter(None, (node.get("py:module"), node.get("py:class") and f"{node['py:module']}.{node['py:class']}"))
    known = exists(target) or any(exists(f"{scope}.{target}") for scope in inside)
    if not known and ("." not in target or target.startswith(f"{INSIDE}.")):
        LOGGER.warning("no such name: %s", target, location=node)


def exists(target: str) -> bool:
    """Whether a whole name is that of a module of this package, or of something in one that is loaded.

    Args:
        target: Dotted name; what follows a class may be one of its fields, or be set by its instances alone.
    """
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        thing, rest = sys.modules.get(".".join(parts[:length])), parts[length:]
        while rest and hasattr(thing, rest[0]):
            thing, rest = getattr(thing, rest[0]), rest[1:]
        if thing is not None:
            return not rest or (len(rest) == 1 and isinstance(thing, type))
    return False


def _through(target: str, module: str) -> str | None:
    """A dotted name with re-exports followed: a module's name first, or one that the module at hand knows."""
    parts = target.split(".")
    if not target.startswith(f"{INSIDE}."):
        first = origin(module, parts[0])
        return ".".join([first, *parts[1:]]) if first else None
    for length in range(len(parts) - 1, 0, -1):
        found = origin(".".join(parts[:length]), parts[length])
        if found:
            return ".".join([found, *parts[length + 1 :]])
    return None


def origin(module: str, name: str) -> str | None:
    """The whole name of what a module calls by a short one.

    Args:
        module: Dotted name of the module that uses it.
        name: Without a dot.

    Returns:
        ``package.module.name`` where it is defined, through re-exports; None for what is unknown (builtins included).
    """
    imported, own = _names(module)
    if name in own:
        return f"{module}.{name}"
    source = imported.get(name)
    if source is None:
        return None
    parent, _, last = source.rpartition(".")
    if parent.startswith(INSIDE) and parent != module:
        return origin(parent, last) or source
    return source


@cache
def _names(module: str) -> tuple[dict[str, str], frozenset[str]]:
    """What a module imports (short name -> whole name), and what it defines itself."""
    try:
        spec = importlib.util.find_spec(module) if module.startswith(INSIDE) else None
    except ModuleNotFoundError:  # a class, not a module
        spec = None
    if spec is None or not spec.origin:
        return {}, frozenset()
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    imported, own = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return imported, frozenset(own)


def led(app, doctree) -> None:
    """Sphinx's hook: a notebook's name in code, as in the cards, leads to its page."""
    here = app.env.docname
    for literal in list(doctree.findall(nodes.literal)):
        page = f"notebooks/{literal.astext()}"
        if literal.astext() in BY_NAME and page != here and not isinstance(literal.parent, nodes.reference):
            link = nodes.reference("", "", internal=True, refuri=app.builder.get_relative_uri(here, page))
            literal.replace_self(link)
            link += literal


def described(app, doctree) -> None:
    """Sphinx's hook: a picture that a cell drew has no words of its own; it gets those of the heading above it."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt"):
            section = image.parent
            while section is not None and not isinstance(section, nodes.section):
                section = section.parent
            title = section.next_node(nodes.title).astext() if section is not None else ""
            image["alt"] = f"Picture: {title}" if title else "Picture"
