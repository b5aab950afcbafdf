"""``strokelib refresh-notebooks``: from the executed copies back into the checkout."""

from __future__ import annotations

import argparse

from strokelib.commands import chosen, listed, run_options

HELP = "write the outputs of the executed copies into the committed notebooks"
EXAMPLE = "strokelib refresh-notebooks"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a run."""
    run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Refresh the notebooks, then the pages, which quote them."""
    from strokelib import publish

    settings = chosen(args)
    changed = publish.refresh_notebooks(settings) + publish.write_pages(settings, listed())
    print(f"refreshed: {', '.join(changed) or 'nothing, all are up to date'}")
    return 0
