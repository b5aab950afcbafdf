"""The API reference's pages: one a package, made from what stands in ``strokelib/``."""

from __future__ import annotations

import ast
from pathlib import Path

# Whatever stands in no package is on one page.
REST = "strokelib"


def pages(package: Path) -> dict[str, str]:
    """File name -> reStructuredText.

    Args:
        package: The folder of the package.

    Returns:
        ``index.rst`` with a table of all pages, and a page for each folder with modules.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        if any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(package).parts):
            continue
        groups.setdefault(module_name(path.parent, package), []).append(path)
    made = {f"{name}.rst": _page(name, files, package) for name, files in groups.items()}
    rows = [f"   * - :doc:`{name} <{name}>`\n     - {_first_line(files)}" for name, files in sorted(groups.items())]
    toctree = "\n".join(f"   {name}" for name in sorted(groups))
    made["index.rst"] = (
        "API reference\n=============\n\nEvery public function and class, from its docstring. Arrays are (D, H, W), "
        "spacings (dz, dy, dx) in mm.\n\n"
        ".. list-table::\n   :widths: 30 70\n\n" + "\n".join(rows) + f"\n\n.. toctree::\n   :hidden:\n\n{toctree}\n"
    )
    return made


def module_name(path: Path, package: Path) -> str:
    """The dotted name of a file or folder below the package's own."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _first_line(files: list[Path]) -> str:
    """What a package's docstring begins with; roles and literals in it are left as they are."""
    said = ast.get_docstring(ast.parse(files[0].read_text("utf-8"))) or ""
    line = said.split("\n\n")[0].replace("\n", " ")
    return line.replace("*", "\\*").replace("|", "\\|")


def _page(name: str, files: list[Path], package: Path) -> str:
    title = f"{name}: modules of their own" if name == REST else name
    parts = [title, "=" * len(title), ""]
    for path in files:
        module = module_name(path, package)
        if module != name:
            short = module.removeprefix(f"{name}.")
            parts += [short, "-" * len(short), ""]
        parts += [f".. automodule:: {module}", ""]
    return "\n".join(parts)
