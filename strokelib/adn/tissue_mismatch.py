"""Where a voxel and its mirror image are of different tissue: R_GW, Ni et al. 2022, Sec. 2."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from strokelib.adn.regulariser import same_volumes
from strokelib.nn.alignment import mirror
from strokelib.options import chosen

VERSION = 1
Sides = Literal["two-sided", "one-sided"]


def tissue_mismatch(grey: Tensor, white: Tensor, form: Sides = "two-sided") -> Tensor:
    """Voxels that are grey with a white mirror image, or white with a grey one.

    It is min(mirror(grey) white + grey mirror(white), 1). Of binary maps this is the logical (mirror(grey) and white)
    or (grey and mirror(white)); of probabilities that sum to at most 1 in a voxel it is the probability of either, the
    two sides taken as independent. Partial volume therefore counts on both sides of a perfectly symmetric head: cut
    soft maps to the likeliest tissue for the paper's binary R_GW.

    ``one-sided`` is the first product alone, as the paper's recipe and the public code have it: white voxels with a
    grey mirror image. White matter is darker on CT, so these are nearly the mismatches with A > 0; A is 0 at their
    mirror images, where the asymmetry loss already holds P down (erratum A2).

    Args:
        grey: R_GM, (B, 1, D, H, W) in [0, 1], in the aligned frame.
        white: R_WM, likewise.
        form: One of the two.

    Returns:
        (B, 1, D, H, W) float32 in [0, 1]; ``two-sided`` equals its own mirror image.

    Raises:
        ParameterError: Another form, or shapes that differ or are not (B, 1, D, H, W).
    """
    chosen("form", form, get_args(Sides))
    same_volumes(grey=grey, white=white)
    grey, white = grey.float(), white.float()
    one = mirror(grey) * white
    return (one if form == "one-sided" else one + grey * mirror(white)).clamp_max(1)


def without_lesion(mask: Tensor, lesion: Tensor, also_mirror: bool = False) -> Tensor:
    """A map of tissue with the lesion cut out: mask (1 - lesion), as in the public code.

    With ``also_mirror`` the lesion's mirror image is cut out, too. For R_GW that is the paper's order, which cuts the
    lesion from grey and white matter before they are compared; P is then free on both sides (A21).

    Args:
        mask: R_GW or R_CSF, (B, 1, D, H, W) in [0, 1].
        lesion: T(G), 0 or 1.
        also_mirror: Whether the mirror image goes, too.

    Returns:
        (B, 1, D, H, W) float32 in [0, 1].

    Raises:
        ParameterError: The shapes differ or are not (B, 1, D, H, W).
    """
    same_volumes(mask=mask, lesion=lesion)
    kept = 1 - lesion.float()
    return mask.float() * (kept * mirror(kept) if also_mirror else kept)
