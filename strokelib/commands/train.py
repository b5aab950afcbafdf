"""``strokelib train``: one row of one method, in the folders that the notebooks use."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "train one row of one method, or go on with it, and say its scores"
EXAMPLE = "strokelib train papl --profile smoke"
SHIPPED = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    from strokelib.commands import run_options

    parser.add_argument("method", nargs="?", default="", help="papl, adn, ssl_nnunet, pseudo_dwi or unet")
    parser.add_argument("--row", default="", help="a row of the paper's tables (default: the one it proposes)")
    parser.add_argument("--list", action="store_true", help="print the methods and their rows, and train nothing")
    parser.add_argument(
        "--export",
        nargs="?",
        const=SHIPPED,
        default=None,
        metavar="FOLDER",
        help="then write demo weights and their model card there (default: where the package ships them)",
    )
    run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train, say where the model lies and how it scores."""
    if args.list or not args.method:
        print(listing())
        return 0 if args.list else 2
    from strokelib import repro, settings
    from strokelib.methods import training_rows

    cohort = training_rows.cohort_of(args.method, args.cohort)
    chosen = settings.resolve(args.profile, cohort, args.seed, args.data)
    print(f"{args.method}: {chosen.describe()}")
    repro.seed_everything(chosen.seed)
    finished = training_rows.train_row(args.method, chosen, args.row, progress=True)
    print(report(finished))
    if args.export is not None:
        from strokelib.methods import weight_export

        folder = weight_export.shipped_folder() if args.export == SHIPPED else Path(args.export)
        for path in weight_export.export(finished, folder):
            print(f"written: {os.path.relpath(path)} ({path.stat().st_size:,} bytes)")
    return 0


def listing() -> str:
    """Methods and rows as text; the row that a paper proposes is marked."""
    from strokelib.methods.training_rows import rows_of
    from strokelib.methods.weight_kinds import KINDS

    lines = []
    for key, kind in KINDS.items():
        lines.append(f"{key}: {kind.title} ({kind.paper}), cohort {kind.cohort}")
        lines += [f"    {row}{'  (default)' if row == kind.row else ''}" for row in rows_of(key)]
    return "\n".join(lines)


def report(finished) -> str:
    """Where the models lie, and the row's mean Dice beside the best row that needs no network.

    Args:
        finished: A :class:`strokelib.methods.training_rows.Finished`.
    """
    lines = [f"{one.method.title}: {os.path.relpath(one.folder)}" for one in finished.trained]
    best, margin = finished.margin()
    for name in (finished.row, best):
        found = finished.mean(name)
        said = f"Dice {found.value:.3f}  95 % CI {found.low:.3f} to {found.high:.3f}  n = {len(finished.dice(name))}"
        lines.append(f"{name:<24} {said}")
    lines.append(f"{finished.row} minus {best}: {margin.value:+.3f} ({margin.low:+.3f} to {margin.high:+.3f})")
    lines.append(f"status: {finished.status}; {finished.settings.describe()}; not for clinical use")
    return "\n".join(lines)
