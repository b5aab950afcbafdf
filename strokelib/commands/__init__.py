"""The ``strokelib`` command's parts: one module a command.

A module ``strokelib/commands/<name>.py`` is the command ``strokelib <name>`` (an underscore becomes a hyphen). It holds

- ``HELP``: one line, without a full stop, shown by ``strokelib --help``;
- ``EXAMPLE``: a command line that works, shown at the end of ``strokelib <name> --help``;
- ``arguments(parser)``: adds its arguments; :func:`run_options` gives it the options that every run has;
- ``run(args) -> int``: does it; returns 0, or 1 for a known problem. A :class:`~strokelib.errors.StrokelibError` is
  printed by ``cli.main``, which returns 1.

A module imports what is heavy (torch, pandas, the methods) within its functions, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from types import ModuleType

# How `strokelib --help` groups them; a command that stands in none comes last.
GROUPS = {
    "your scans": ("check", "prepare", "predict"),
    "the book": ("reproduce", "plan", "run-notebook", "refresh-notebooks", "crate"),
    "methods and claims": ("train", "claims", "bench"),
    "this installation": ("doctor",),
}
OTHERS = "others"
ENGINES = ("papermill", "nbval")


def names() -> list[str]:
    """The commands that stand in this package, in alphabetical order, as they are typed."""
    return sorted(one.name.replace("_", "-") for one in pkgutil.iter_modules(__path__))


def module(name: str) -> ModuleType:
    """The module of one command.

    Args:
        name: the command as it is typed, one of :func:`names`.

    Returns:
        the module with ``HELP``, ``EXAMPLE``, ``arguments`` and ``run``.
    """
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def grouped() -> dict[str, list[str]]:
    """Group -> its commands, as ``strokelib --help`` and the README list them; each command once."""
    there = names()
    groups = {title: [name for name in wanted if name in there] for title, wanted in GROUPS.items()}
    rest = sorted(set(there) - {name for wanted in GROUPS.values() for name in wanted})
    return {title: found for title, found in {**groups, OTHERS: rest}.items() if found}


def listed() -> dict[str, tuple[str, str]]:
    """Command -> (what it does, an example), in the order of :func:`grouped`."""
    parts = {name: module(name) for found in grouped().values() for name in found}
    return {name: (part.HELP, part.EXAMPLE) for name, part in parts.items()}


def overview() -> str:
    """What stands below the usage in ``strokelib --help``: every command with what it does, by group."""
    lines, said = [], listed()
    for title, found in grouped().items():
        lines += ["", f"{title}:", *(f"  {name:<20}{said[name][0]}" for name in found)]
    return "\n".join([*lines, "", "strokelib COMMAND --help says more and shows an example."])


def run_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile``, ``--cohort``, ``--data`` and ``--seed``, as :func:`strokelib.settings.resolve` takes them."""
    parser.add_argument("--profile", default="", help="smoke, demo (default) or paper: how long")
    parser.add_argument("--cohort", default="", help="cohort key (default aisd): on what")
    parser.add_argument("--data", default=None, help="folder of real scans (default: the embedded data)")
    parser.add_argument("--seed", type=int, default=0, help="whole number >= 0 (default 0)")


def engine_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--engine``: execute notebooks, or compare their tagged outputs."""
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="execute, or check with nbval")


def only_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--only`` and ``--engine``: which notebooks of the book, and how."""
    parser.add_argument("--only", default="", help="one notebook, or several separated by commas, and what they need")
    engine_option(parser)


def folder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder of scans and ``--layout``, as :mod:`strokelib.data.sources` knows them."""
    parser.add_argument("folder", help="an unpacked data set: AISD, APIS, ISLES 2018, CENTER-TBI, BIDS-like, or plain")
    known = "auto, aisd, aisd_nifti, aisd_png, apis, isles2018, center_tbi, bids or plain"
    parser.add_argument("--layout", default="auto", help=known)


def chosen(args: argparse.Namespace):
    """The settings that the options of :func:`run_options` ask for.

    Args:
        args: the parsed command line.

    Returns:
        :class:`strokelib.settings.Settings`.
    """
    from strokelib import settings

    return settings.resolve(args.profile, args.cohort, args.seed, args.data)


def register(subparsers) -> None:
    """Add every command of this package to the parser.

    Args:
        subparsers: what ``ArgumentParser.add_subparsers`` returned. A command's parser carries its module as
            ``command_module``, which is how ``cli.main`` finds what to run.
    """
    for name in names():
        part = module(name)
        example = f"Example:\n  {part.EXAMPLE}"
        sub = subparsers.add_parser(
            name,
            description=part.HELP[0].upper() + part.HELP[1:] + ".",
            epilog=example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        part.arguments(sub)
        sub.set_defaults(command_module=part)
