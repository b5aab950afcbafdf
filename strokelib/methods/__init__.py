"""From a method's name to a trained network, its predictions and its scores, and the reference rows beside them.

A package, not one file, because it holds four ideas: what a method is, the U-Net baseline, how a method is trained once
and predicts, how predictions are scored, and the three rows that need no network.
"""

from strokelib.methods.baseline import Baseline, BaselineRecipe, run_baseline
from strokelib.methods.method import Method
from strokelib.methods.midline import MIDLINE, MidlineRecipe, find_line
from strokelib.methods.reference_rows import REFERENCES, Reference, fit_references, reference_metrics
from strokelib.methods.scoring import per_case, read_metrics, score, status, versus_references, weakest
from strokelib.methods.training import Trained, predict, train_method
from strokelib.methods.unet import UNET, UNetRecipe

METHODS: dict[str, Method] = {method.key: method for method in (UNET,)}

__all__ = [
    "METHODS",
    "MIDLINE",
    "REFERENCES",
    "Baseline",
    "BaselineRecipe",
    "Method",
    "MidlineRecipe",
    "Reference",
    "Trained",
    "UNetRecipe",
    "find_line",
    "fit_references",
    "per_case",
    "predict",
    "read_metrics",
    "reference_metrics",
    "run_baseline",
    "score",
    "status",
    "train_method",
    "versus_references",
    "weakest",
]
