"""``strokelib prepare``: prepared cases from a folder of scans."""

from __future__ import annotations

import argparse
import os
import time

from strokelib.commands import folder_arguments

HELP = "make prepared cases from a folder of scans"
EXAMPLE = "strokelib prepare scans/ --cohort aisd --out cases/"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, what its scans stand for, and how they are prepared."""
    folder_arguments(parser)
    parser.add_argument("--cohort", default="aisd", help="the cohort that the scans stand for (default aisd)")
    parser.add_argument("--out", default="", help="folder for the cases (default: where notebooks look, in runs/)")
    parser.add_argument(
        "--grid", default="prepared", help="prepared (5 x 2 x 2 mm), published (5 x 1.2 x 1.2) or native"
    )
    parser.add_argument("--labels", default="official", help="AISD's lesion labels: official or 'every non-zero'")
    parser.add_argument("--readers", default="first", help="masks of several readers: first, any or all")
    parser.add_argument("--workers", type=int, default=0, help="processes side by side (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Prepare what can be used and name what cannot; 1 where something was left out."""
    from strokelib.data import preparing
    from strokelib.data.realcase import Choices

    begun = time.monotonic()
    made = preparing.prepare(
        args.folder,
        args.cohort,
        out=args.out or None,
        layout=args.layout,
        choices=Choices(args.grid, args.labels, args.readers),
        workers=args.workers,
        progress=True,
    )
    for name, said in made.problems.items():
        print(f"left out  {name}\n      {said}")
    counts = ", ".join(f"{split} {len(made.ids(split))}" for split in ("train", "val", "test", "hidden"))
    print(f"prepared: {len(made.ids())} of {len(made.cases)} cases ({counts}), {time.monotonic() - begun:.0f} s")
    print(f"cases: {os.path.relpath(made.folder)}")
    return 1 if made.problems else 0
