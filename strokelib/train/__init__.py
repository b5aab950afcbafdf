"""One training loop: ``fit`` and its history, checkpoints and learning-rate schedules.

A package, not one file, because it holds more than one idea: the loop (``loop``, ``updates``, ``batches``), what it
writes (``records``, ``history``, ``checkpoints``, ``randomness``, ``folders``), what it can do beside (``schedules``,
``pacing``, ``averages``, ``stopping``, ``scaling``, ``ranks``), and weights from elsewhere (``foreign``).
"""

from strokelib.train.averages import Average
from strokelib.train.checkpoints import load_weights, plain_tensors, save_tensors
from strokelib.train.foreign import convert_foreign, load_foreign
from strokelib.train.history import History, read_cases, read_rows
from strokelib.train.loop import Sampler, fit
from strokelib.train.pacing import paced
from strokelib.train.schedules import constant, cosine, poly, step_decay
from strokelib.train.stopping import Patience

__all__ = [
    "Average",
    "History",
    "Patience",
    "Sampler",
    "constant",
    "convert_foreign",
    "cosine",
    "fit",
    "load_foreign",
    "load_weights",
    "paced",
    "plain_tensors",
    "poly",
    "read_cases",
    "read_rows",
    "save_tensors",
    "step_decay",
]

VERSION = 1
