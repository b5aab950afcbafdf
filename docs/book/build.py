"""Build the book: `python docs/book/build.py [--out FOLDER] [--jobs N]`. Nothing is executed and nothing is fetched."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import staging

HERE = Path(__file__).resolve().parent


def build(root: Path, out: Path, jobs: int = 1, *, quiet: bool = True) -> int:
    """Build the pages.

    Args:
        root: The checkout.
        out: Folder for ``source`` (copies), ``doctrees`` (Sphinx's memory, so that a second build takes seconds) and
            ``html`` (the book).
        jobs: Processes.
        quiet: Only warnings are printed.

    Returns:
        Sphinx's exit status: 0, or another where it had to warn.
    """
    from sphinx.cmd.build import build_main

    staging.stage(root, out / "source")
    options = ["-b", "html", "-W", "--keep-going", "-j", str(jobs), "-c", str(HERE), "-d", str(out / "doctrees")]
    return build_main([*options, *(["-q"] if quiet else []), str(out / "source"), str(out / "html")])


def main() -> int:
    """The command."""
    root = HERE.parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=root / "runs" / "book", help="folder (default runs/book)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    args, begun = parser.parse_args(), time.monotonic()
    status = build(root, args.out, args.jobs)
    html = args.out / "html"
    pages = sum("_static" not in path.parts for path in html.rglob("*.html"))
    where = os.path.relpath(html / "index.html")
    print(f"book: {pages} pages, {time.monotonic() - begun:.0f} s: {where}" if not status else "book: see the warnings")
    return status


if __name__ == "__main__":
    sys.exit(main())
