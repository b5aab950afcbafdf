"""``strokelib reproduce``: every notebook that is out of date, then the figures, the pages and the crate."""

from __future__ import annotations

import argparse
import os
import time

from strokelib.commands import chosen, only_option, run_options

HELP = "run every notebook that is out of date and collect the figures"
EXAMPLE = "strokelib reproduce --profile smoke --only 00_start_here"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a run, which notebooks, and how many side by side."""
    run_options(parser)
    only_option(parser)
    parser.add_argument("--cores", type=int, default=0, help="notebooks side by side (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Run what is out of date; a checked run (nbval) makes nothing."""
    from strokelib import pipeline, processes, publish

    settings = chosen(args)
    if os.environ.get("STROKELIB_END_WITH", "").isdigit():
        processes.end_with(int(os.environ["STROKELIB_END_WITH"]), pipeline.mark_of(settings))
    begun = time.monotonic()
    records = pipeline.reproduce(settings, only=args.only, engine=args.engine, cores=args.cores)
    ran = sum(record["ran"] for record in records)
    print("\n" + publish.report(records) + "\n")
    if args.engine == "nbval":
        minutes = (time.monotonic() - begun) / 60
        print(f"notebooks checked: {len(records)} passed, 0 failed ({ran} run now, {minutes:.1f} min)")
        return 0
    _publish(settings)
    made, minutes = sum(len(record["artefacts"]) for record in records), (time.monotonic() - begun) / 60
    print(f"reproduced: {len(records)} notebooks ({ran} run now), {made} artefacts, 0 failed, {minutes:.1f} min")
    return 0


def _publish(settings) -> None:
    """Copy figures, write the pages and the run's metadata, and say where they are."""
    from strokelib import commands, crate, pipeline, publish

    publish.copy_figures(settings)
    pages = publish.write_pages(settings, commands.listed())
    print(f"record of the run: {os.path.relpath(crate.write(settings))}")
    if pages:
        print(f"pages written again: {', '.join(pages)}")
    folder = settings.figures if pipeline.default_settings(settings) else settings.work / "figures"
    print(f"figures and tables: {os.path.relpath(folder)}/")
