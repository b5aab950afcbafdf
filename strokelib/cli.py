"""The ``strokelib`` command."""

from __future__ import annotations

import argparse
import os
import sys
import time

from strokelib import __version__, commands
from strokelib.errors import StrokelibError

DOCTOR = "say what is installed, what is missing, which device computes, and whether the shipped data are whole"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="strokelib", description=__import__("strokelib").__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text, description=text)
        sub.add_argument("--profile", default="", help="smoke, demo (default) or paper: how long")
        sub.add_argument("--cohort", default="", help="cohort key (default aisd): on what")
        sub.add_argument("--data", default=None, help="folder of real scans (default: the embedded data)")
        sub.add_argument("--seed", type=int, default=0, help="whole number >= 0 (default 0)")
        return sub

    for name, text in (
        ("reproduce", "run every notebook that is out of date and collect the figures"),
        ("plan", "say which notebooks would run, with estimated minutes"),
    ):
        sub = add(name, text)
        sub.add_argument("--only", default="", help="one notebook, or several separated by commas, and what they need")
        sub.add_argument(
            "--engine", choices=("papermill", "nbval"), default="papermill", help="execute, or check with nbval"
        )
        if name == "reproduce":
            sub.add_argument("--cores", type=int, default=0, help="notebooks side by side (default: one a core)")
    checking = subparsers.add_parser("check", help="say everything that is wrong with a folder of scans")
    preparing = subparsers.add_parser("prepare", help="make prepared cases from a folder of scans")
    for sub in (checking, preparing):
        sub.add_argument("folder", help="an unpacked data set: AISD, APIS, ISLES 2018, CENTER-TBI, BIDS-like, or plain")
        known = "auto, aisd, aisd_nifti, aisd_png, apis, isles2018, center_tbi, bids or plain"
        sub.add_argument("--layout", default="auto", help=known)
    preparing.add_argument("--cohort", default="aisd", help="the cohort that the scans stand for (default aisd)")
    preparing.add_argument("--out", default="", help="folder for the cases (default: where notebooks look, in runs/)")
    preparing.add_argument(
        "--grid", default="prepared", help="prepared (5 x 2 x 2 mm), published (5 x 1.2 x 1.2) or native"
    )
    preparing.add_argument("--labels", default="official", help="AISD's lesion labels: official or 'every non-zero'")
    preparing.add_argument("--readers", default="first", help="masks of several readers: first, any or all")
    preparing.add_argument("--workers", type=int, default=0, help="processes side by side (default: one a core)")
    checking.add_argument("--json", default="", metavar="FILE", help="write the report there, or - for the screen")
    subparsers.add_parser("doctor", help=DOCTOR, description=DOCTOR)
    add("refresh-notebooks", "write the outputs of the executed copies into the committed notebooks")
    single = add("run-notebook", "run one notebook alone (Snakemake calls this)")
    single.add_argument("name", help="e.g. 00_start_here")
    single.add_argument("--engine", choices=("papermill", "nbval"), default="papermill")
    single.add_argument("--run", default="", help="name of the run that this notebook belongs to")
    commands.register(subparsers)
    return parser


def _reproduce(args: argparse.Namespace) -> int:
    from strokelib import pipeline, publish, settings

    begun = time.monotonic()
    chosen = settings.resolve(args.profile, args.cohort, args.seed, args.data)
    records = pipeline.reproduce(chosen, only=args.only, engine=args.engine, cores=args.cores)
    ran, minutes = sum(r["ran"] for r in records), (time.monotonic() - begun) / 60
    print("\n" + publish.report(records) + "\n")
    if args.engine == "nbval":
        print(f"notebooks checked: {len(records)} passed, 0 failed ({ran} run now, {minutes:.1f} min)")
        return 0
    publish.copy_figures(chosen)
    folder = chosen.figures if pipeline.default_settings(chosen) else chosen.work / "figures"
    made = sum(len(r["artefacts"]) for r in records)
    print(f"figures and tables: {os.path.relpath(folder)}/")
    print(f"reproduced: {len(records)} notebooks ({ran} run now), {made} artefacts, 0 failed, {minutes:.1f} min")
    return 0


def _check(args: argparse.Namespace) -> int:
    from strokelib.data import checking
    from strokelib.repro import write_text

    report = checking.check(args.folder, args.layout, progress=True)
    if args.json and args.json != "-":
        write_text(args.json, report.as_json())
    print(report.as_json() if args.json == "-" else report.as_text())
    return 1 if report.errors else 0


def _prepare(args: argparse.Namespace) -> int:
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


def _doctor(args: argparse.Namespace) -> int:
    from strokelib import doctor

    findings = doctor.examine()
    print(doctor.page(findings))
    return 1 if any(one.word == doctor.BAD for one in findings) else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status (0 good, 1 a known problem, 2 wrong usage)."""
    args = _parser().parse_args(argv)
    from strokelib import pipeline, processes, publish, settings

    try:
        if hasattr(args, "command_module"):
            return args.command_module.run(args)
        if args.command in ("check", "prepare", "doctor"):
            return {"check": _check, "prepare": _prepare, "doctor": _doctor}[args.command](args)
        if args.command == "reproduce":
            if os.environ.get("STROKELIB_END_WITH", "").isdigit():
                chosen = settings.resolve(args.profile, args.cohort, args.seed, args.data)
                processes.end_with(int(os.environ["STROKELIB_END_WITH"]), pipeline.mark_of(chosen))
            return _reproduce(args)
        chosen = settings.resolve(args.profile, args.cohort, args.seed, args.data)
        if args.command == "plan":
            print(pipeline.plan_text(chosen, args.only, args.engine))
        elif args.command == "refresh-notebooks":
            changed = publish.refresh_notebooks(chosen)
            print(f"refreshed: {', '.join(changed) or 'nothing, all are up to date'}")
        elif args.command == "run-notebook":
            result = pipeline.run_step(args.name, chosen, engine=args.engine, run=args.run)
            print(result.log if not result.ok else f"{args.name}: done in {result.seconds:.0f} s")
            return 0 if result.ok else 1
    except StrokelibError as error:
        print(f"strokelib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstrokelib: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
