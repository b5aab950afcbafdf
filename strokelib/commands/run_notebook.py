"""``strokelib run-notebook``: one notebook alone, as Snakemake runs it."""

from __future__ import annotations

import argparse

from strokelib.commands import chosen, engine_option, run_options

HELP = "run one notebook alone (Snakemake calls this)"
EXAMPLE = "strokelib run-notebook 04_metrics_by_hand --profile smoke"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a run, and the notebook."""
    run_options(parser)
    parser.add_argument("name", help="e.g. 00_start_here")
    engine_option(parser)
    parser.add_argument("--run", default="", help="name of the run that this notebook belongs to")


def run(args: argparse.Namespace) -> int:
    """Run it; prints its log where it failed."""
    from strokelib import pipeline

    result = pipeline.run_step(args.name, chosen(args), engine=args.engine, run=args.run)
    print(result.log if not result.ok else f"{args.name}: done in {result.seconds:.0f} s")
    return 0 if result.ok else 1
