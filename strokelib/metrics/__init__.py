"""Scores of one predicted mask against one reference mask: overlap, volumes in mL, surface distances in mm.

Masks are (D, H, W) or (H, W), bool or holding only 0 and 1. Spacing is (dz, dy, dx) in mm and always asked for: nothing
is ever measured in voxels. A surface voxel is a voxel of the mask with a face neighbour (6 in 3-D, 4 in 2-D) outside
the mask; whatever lies beyond the array counts as outside. Distances run between the centres of surface voxels. HD95
has two conventions, by name: ``pooled`` is the 95th percentile of both directions' distances together,
``max_directed`` the larger of the two directions' percentiles.

Empty masks. A score that is not defined is NaN, never a good value, and ``status`` says which of the four cases it was:

=============== ================ ================= ============================== ============================
status          lesion voxels in Dice, Jaccard     precision | sensitivity | RVE  surface distances
=============== ================ ================= ============================== ============================
``ok``          both             as defined        as defined                     as defined
``both_empty``  neither          NaN (``isles`` 1) NaN | NaN | NaN                NaN (``penalised`` 0)
``missed``      reference only   0                 NaN | 0 | 1                    NaN (``penalised`` diagonal)
``false_alarm`` prediction only  0                 0 | NaN | NaN                  NaN (``penalised`` diagonal)
=============== ================ ================= ============================== ============================

Surface Dice and lesion-wise F1 follow Dice: NaN (``isles`` 1) where both are empty, 0 where one is.

``empty="isles"`` is the convention of the ISLES challenges; ``undefined="penalised"`` puts the length of the image's
diagonal in mm in the place of a distance that does not exist. Two masks that hold voxels but do not meet are ``ok`` and
score Dice 0. :func:`summarise` counts each status and leaves no case out without saying so.
"""

from strokelib.metrics.cases import segmentation_metrics, summarise
from strokelib.metrics.images import ImageScores, image_scores, local_box, psnr_db, ssim_map
from strokelib.metrics.lesions import LesionScores, lesion_scores, truth_above
from strokelib.metrics.masks import STATUSES
from strokelib.metrics.overlap import (
    absolute_volume_difference_ml,
    dice,
    jaccard,
    precision,
    relative_volume_error,
    sensitivity,
    volume_difference_ml,
    volume_ml,
)
from strokelib.metrics.surface import SurfaceDistances, assd_mm, hd95_mm, hd_mm, surface_dice, surface_distances
from strokelib.metrics.units import unit_of

__all__ = [
    "STATUSES",
    "ImageScores",
    "LesionScores",
    "SurfaceDistances",
    "absolute_volume_difference_ml",
    "assd_mm",
    "dice",
    "hd95_mm",
    "hd_mm",
    "image_scores",
    "jaccard",
    "lesion_scores",
    "local_box",
    "precision",
    "psnr_db",
    "relative_volume_error",
    "segmentation_metrics",
    "sensitivity",
    "ssim_map",
    "summarise",
    "surface_dice",
    "surface_distances",
    "truth_above",
    "unit_of",
    "volume_difference_ml",
    "volume_ml",
]
