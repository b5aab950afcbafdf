"""``strokelib check``: what is wrong with a folder of scans, file by file."""

from __future__ import annotations

import argparse

from strokelib.commands import folder_arguments

HELP = "say everything that is wrong with a folder of scans"
EXAMPLE = "strokelib check scans/ --json report.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, its layout, and where the report goes."""
    folder_arguments(parser)
    parser.add_argument("--json", default="", metavar="FILE", help="write the report there, or - for the screen")


def run(args: argparse.Namespace) -> int:
    """Open every file and print what is wrong; 1 where something is."""
    from strokelib.data import checking
    from strokelib.repro import write_text

    report = checking.check(args.folder, args.layout, progress=True)
    if args.json and args.json != "-":
        write_text(args.json, report.as_json())
    print(report.as_json() if args.json == "-" else report.as_text())
    return 1 if report.errors else 0
