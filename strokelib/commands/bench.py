"""``strokelib bench``: strokelib against its peers, as ratios measured in one run."""

from __future__ import annotations

import argparse
import importlib.util
import re
from types import ModuleType

HELP = "measure against the peers and print the ratios"
EXAMPLE = "strokelib bench metrics phantom"
SCRIPT = "benchmarks/results.py"
RATIO = re.compile(r" / |\bratio\b|\bover\b|of the ceiling|of strokelib's", re.IGNORECASE)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which benchmarks; all but those on request where none is named."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks (default: all that --list does not mark)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and measure nothing")
    parser.add_argument("--last", action="store_true", help="print the ratios of the last run and measure nothing")


def run(args: argparse.Namespace) -> int:
    """Measure, write benchmarks/results.md and print the ratios."""
    from strokelib.errors import ParameterError

    results = _results()
    if args.list:
        print(_list(results))
        return 0
    names = args.names or [name for name in results.SCRIPTS if name not in results.ON_REQUEST]
    if strange := [name for name in names if name not in results.SCRIPTS]:
        step = "strokelib bench --list names them"
        raise ParameterError("benchmark", found=strange[0], wanted=" or ".join(results.SCRIPTS), next_step=step)
    status = 0 if args.last else results.main(names)
    sections = results.earlier()
    for name in names:
        print("\n".join(ratios(sections[name])) if name in sections else f"{name}: not measured yet", end="\n\n")
    return status


def _results() -> ModuleType:
    """The module ``benchmarks/results.py`` of the checkout.

    Raises:
        PipelineError: There is no checkout around the package: an installed copy has no benchmarks.
    """
    from strokelib.errors import PipelineError
    from strokelib.settings import project_root

    path = project_root() / SCRIPT
    if not path.is_file():
        found, wanted = f"no {SCRIPT}", "the checkout, which holds the benchmarks beside the package"
        raise PipelineError("bench", found=found, wanted=wanted, next_step="run it in a clone installed with pip -e")
    loading = importlib.util.spec_from_file_location("benchmark_results", path)
    module = importlib.util.module_from_spec(loading)
    loading.loader.exec_module(module)
    return module


def _list(results: ModuleType) -> str:
    """Name, title and whether a benchmark is measured on request alone."""
    marks = {name: "   (on request: minutes a step)" if name in results.ON_REQUEST else "" for name in results.SCRIPTS}
    return "\n".join(f"  {name:<28}{title}{marks[name]}" for name, title in results.SCRIPTS.items())


def ratios(section: str) -> list[str]:
    """Of a section of the page its title, and of each table the name of a row and its ratios to the peers.

    Args:
        section: Markdown with tables, as ``benchmarks/results.py`` writes it.

    Returns:
        Lines; a table without any ratio is left out.
    """
    lines, header, shown = [section.splitlines()[0].lstrip("# ")], None, []
    for line in section.splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            header = None
        elif header is None:
            header = cells
            shown = [number for number, name in enumerate(cells) if number and RATIO.search(name)]
        elif shown and set(line) - set("|- "):
            lines.append(f"  {cells[0]:<44}  " + "; ".join(f"{header[n]} {cells[n]}" for n in shown))
    return lines
