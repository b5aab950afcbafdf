"""One training loop: ``fit`` and its history, checkpoints and learning-rate schedules.

A package, not one file, because it holds four ideas: the loop, the history, the checkpoints and the schedules.
"""

from strokelib.train.checkpoints import load_weights, plain_tensors, save_tensors
from strokelib.train.history import History, read_rows
from strokelib.train.loop import Sampler, fit
from strokelib.train.schedules import constant, cosine, poly, step_decay

__all__ = [
    "History",
    "Sampler",
    "constant",
    "cosine",
    "fit",
    "load_weights",
    "plain_tensors",
    "poly",
    "read_rows",
    "save_tensors",
    "step_decay",
]

VERSION = 1
