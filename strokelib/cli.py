"""The ``strokelib`` command: finds what was asked for in ``commands`` and runs it."""

from __future__ import annotations

import argparse
import sys

import strokelib
from strokelib import commands
from strokelib.errors import StrokelibError

STOPPED = 130


def parser() -> argparse.ArgumentParser:
    """The whole command line: one subparser a module of :mod:`strokelib.commands`."""
    whole = argparse.ArgumentParser(
        prog="strokelib",
        usage="strokelib COMMAND [options]",
        description=(strokelib.__doc__ or "").splitlines()[0] + "\n" + commands.overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=strokelib.__version__)
    how = {"dest": "command", "required": True, "prog": "strokelib", "metavar": "COMMAND"}
    subparsers = whole.add_subparsers(**how, help=argparse.SUPPRESS)
    commands.register(subparsers)
    return whole


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status (0 good, 1 a known problem, 2 wrong usage)."""
    args = parser().parse_args(argv)
    try:
        return args.command_module.run(args)
    except StrokelibError as error:
        print(f"strokelib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstrokelib: stopped; the same command goes on from here", file=sys.stderr)
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
