"""``strokelib plan``: what ``strokelib reproduce`` would run."""

from __future__ import annotations

import argparse

from strokelib.commands import chosen, only_option, run_options

HELP = "say which notebooks would run, with estimated minutes"
EXAMPLE = "strokelib plan --profile demo"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a run, and which notebooks."""
    run_options(parser)
    only_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan; nothing is run."""
    from strokelib import pipeline

    print(pipeline.plan_text(chosen(args), args.only, args.engine))
    return 0
