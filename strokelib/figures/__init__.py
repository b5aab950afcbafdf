"""Figures that belong to no single paper: slices, the first result, data quality, scores and the scoreboard."""

from strokelib.figures.quality import ERROR_LABELS, alignment_errors, realism
from strokelib.figures.scores import metrics_by_hand, score_panels, scoreboard_tiles
from strokelib.figures.slices import AIR_HU, SlicePicture, first_result, slice_grid, slice_row
from strokelib.figures.tissue import TissuePicture, tissue_grid, tissue_row

__all__ = [
    "AIR_HU",
    "ERROR_LABELS",
    "SlicePicture",
    "TissuePicture",
    "alignment_errors",
    "first_result",
    "metrics_by_hand",
    "realism",
    "score_panels",
    "scoreboard_tiles",
    "slice_grid",
    "slice_row",
    "tissue_grid",
    "tissue_row",
]
