"""``strokelib crate``: the record of a run as an RO-Crate, checked and packed."""

from __future__ import annotations

import argparse
import os

from strokelib.commands import chosen, run_options

HELP = "write the record of a run as an RO-Crate, check it, and pack it into one file"
EXAMPLE = "strokelib crate --zip run.zip"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the run that was made, and where the packed crate goes."""
    run_options(parser)
    parser.add_argument("--zip", default="", metavar="FILE", help="pack the run's outputs and their record into FILE")
    parser.add_argument("--check", action="store_true", help="only check the record that is there against its files")


def run(args: argparse.Namespace) -> int:
    """Write and check; 1 where the record does not hold."""
    from strokelib import crate

    settings = chosen(args)
    path = settings.work / crate.NAME if args.check else crate.write(settings)
    problems = crate.problems(path.parent)
    print("\n".join([f"crate: {os.path.relpath(path)}", *(f"  {one}" for one in problems)]))
    if args.zip and not problems:
        print(f"packed: {crate.pack(settings, args.zip)} files into {args.zip}")
    print(f"problems: {len(problems) or 'none'}")
    return 1 if problems else 0
