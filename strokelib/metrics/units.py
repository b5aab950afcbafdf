"""The unit of a metric, by the ending of its name."""

from __future__ import annotations

UNITS = {"_mm": "mm", "_ml": "mL", "_hu": "HU", "_deg": "degrees", "_db": "dB"}


def unit_of(metric: str) -> str:
    """mm, mL, HU, degrees or dB; 1 for a name without such an ending."""
    return next((unit for ending, unit in UNITS.items() if metric.endswith(ending)), "1")
