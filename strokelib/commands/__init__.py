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


def run_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile``, ``--cohort``, ``--data`` and ``--seed``, as :func:`strokelib.settings.resolve` takes them."""
    parser.add_argument("--profile", default="", help="smoke, demo (default) or paper: how long")
    parser.add_argument("--cohort", default="", help="cohort key (default aisd): on what")
    parser.add_argument("--data", default=None, help="folder of real scans (default: the embedded data)")
    parser.add_argument("--seed", type=int, default=0, help="whole number >= 0 (default 0)")


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
            help=part.HELP,
            description=part.HELP[0].upper() + part.HELP[1:] + ".",
            epilog=example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        part.arguments(sub)
        sub.set_defaults(command_module=part)
