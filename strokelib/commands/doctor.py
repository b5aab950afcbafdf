"""``strokelib doctor``: what is installed, what is missing, which device computes."""

from __future__ import annotations

import argparse

HELP = "say what is installed and missing, which device computes, whether the shipped data are whole"
EXAMPLE = "strokelib doctor"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 where one of them is bad."""
    from strokelib import doctor

    findings = doctor.examine()
    print(doctor.page(findings))
    return 1 if any(one.word == doctor.BAD for one in findings) else 0
