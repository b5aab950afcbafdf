"""Hyper-parameters of Ni et al. 2022: of T, of the volume networks that it is compared with, of SEAN, and of ADN."""

from __future__ import annotations

from dataclasses import dataclass

from strokelib.recipe import Recipe, stated

SEC = "Ni et al. 2022, Sec. 3"
CODE = "the authors' public code; the paper is silent"
SILENT = "assumed: not stated"
ROW = "the row of the table"
SMALL = "the authors' public code; narrow where a laptop trains it"
BUDGET = "the authors' public code: 100 epochs of 1000 scans in batches of 6 (erratum A18)"
PIXELS = f"{SEC}: 1.2 mm; blocks of the demo's 2 mm pixels, so that whole heads can be trained on"


@dataclass(frozen=True)
class HeadRecipe(Recipe):
    """How a head becomes a volume, and what every training of the paper shares."""

    window_hu: tuple[float, float] = stated((0.0, 100.0), source="assumed: [0, 1] is stated, the window is not (A23)")
    pool: int = stated(1, demo=2, source=PIXELS)
    batch: int = stated(6, demo=2, source=SEC)
    beta1: float = stated(0.9, source=SEC)
    beta2: float = stated(0.999, source=SEC)
    weight_decay: float = stated(5e-4, source=SEC)
    power: float = stated(0.9, source=SEC)
    mirror: float = stated(0.5, source=CODE)
    gamma: float = stated(64 / 255, demo=0.1, source=f"{CODE}; less where a run is short")
    rotation_deg: float = stated(10.0, source=f"{CODE}; T undoes it, so aligned networks go without")
    clip_norm: float | None = stated(None, demo=12.0, source=SILENT)
    validations: int = stated(50, demo=6, smoke=2, source="none in the paper (A20); ours, on held-out heads")


@dataclass(frozen=True)
class AlignmentRecipe(HeadRecipe):
    """T, trained alone and then left as it is."""

    pool: int = stated(1, demo=4, source=f"{PIXELS}; a pose shows at 8 mm, too")
    rotation_deg: float = stated(10.0, demo=25.0, source=f"{CODE}; more where few heads are seen")
    width: int = stated(32, demo=8, smoke=4, source=SMALL)
    limits: str = stated("paper", source=f"{SEC}: 60 degrees, half the image; 'code' has less (A14)")
    loss: str = stated("relative", source="Eq. 1 over the mean of X (A12); 'printed' and 'code' by name")
    mass_weight: float = stated(1.0, source="ours: nothing else keeps the head in view (A12)")
    batch: int = stated(40, demo=6, smoke=2, source=CODE)
    steps: int = stated(12_500, demo=240, smoke=3, source=CODE)
    lr: float = stated(1e-5, demo=1e-3, source=f"{SEC}; faster where there are few steps")
    ema_decay: float | None = stated(None, source="none")


@dataclass(frozen=True)
class VolumeRecipe(HeadRecipe):
    """A network that segments whole heads: the rows of Table 1 but SEAN and ADN."""

    network: str = stated("3D ResUNet", source=ROW)
    aligned: bool = stated(True, source=ROW)
    batch: int = stated(6, demo=4, smoke=2, source=SEC)
    width: int = stated(32, demo=8, smoke=4, source=SMALL)
    depth: int = stated(4, smoke=3, source=CODE)
    crop: tuple[int, int] | None = stated(
        None, demo=(48, 40), source="whole slices; here the middle, which holds all brain"
    )
    segment: tuple[int, int] | None = stated(None, demo=(8, 16), source="whole heads; here slices and rows")
    lesion_share: float = stated(0.0, demo=1.0, source="none; the demo's parts of heads lie about the lesion so often")
    focus: float = stated(0.0, demo=20.0, source="none; extra weight of lesion in a short run, down to a tenth")
    dropout: float = stated(0.2, demo=0.0, source=f"{CODE}; none in a run of a hundred steps")
    steps: int = stated(16_700, demo=320, smoke=3, source=BUDGET)
    lr: float = stated(1e-3, demo=2e-3, source=f"{SEC}; the code has 1e-4 (A16)")
    ema_decay: float | None = stated(None, demo=0.95, source="none; steadies a run of a hundred steps")


@dataclass(frozen=True)
class AdnRecipe(VolumeRecipe):
    """D and F, trained together on what T aligned."""

    network: str = stated("ADN", source=ROW)
    lambda_: float = stated(10.0, demo=1.0, source=f"{SEC}; in a short run 10 holds P at 0 before F has asked for it")
    steps: int = stated(16_700, demo=90, smoke=3, source=f"{BUDGET}; in the demo beyond prior_steps")
    focus: float = stated(0.0, demo=2.0, source="none; F's, as low as it ends in the 3D ResUNet's row")
    lr: float = stated(1e-3, demo=5e-4, source=f"{SEC}; the code has 1e-4 (A16); D and F have learnt before")
    prior_steps: int = stated(0, demo=320, smoke=3, source="none; D and F both start from the 3D ResUNet's row")
    warm_steps: int = stated(334, demo=0, smoke=1, source=f"{SEC}: two epochs; their length is the code's")
    warm: str = stated("replace", source="the authors' public code; the paper's 'extra' is 'add' (A19)")
    tissue: bool = stated(True, source=ROW)
    form: str = stated("recommended", source="errata A7, A8, A9; 'printed' by name")
    sides: str = stated("two-sided", source="the paper's words; its recipe is 'one-sided' (A2)")
    sees: str = stated("X", source="Ni et al. 2022, Sec. 2; 'X,A' by name (A5)")
    range: str = stated("sigmoid", source="assumed from the warm start; 'bounded' keeps P below A (A4, A6)")
    intrinsic: str = stated("relu", source="the authors' public code; 'printed' can be negative (A4)")


@dataclass(frozen=True)
class SeanRecipe(HeadRecipe):
    """SEAN: its own alignment of slices, then its attention; both from single slices."""

    network: str = stated("SEAN", source=ROW)
    aligned: bool = stated(True, source=ROW)
    width: int = stated(32, demo=8, smoke=4, source="assumed: no public code")
    depth: int = stated(5, demo=4, smoke=3, source="assumed: no public code")
    crop: tuple[int, int] | None = stated(None, demo=(96, 80), source="whole slices; here a window about the brain")
    batch: int = stated(16, demo=4, source="assumed: Ni et al. trained it again, and do not say how")
    alignment_steps: int = stated(2_000, demo=80, smoke=2, source="assumed")
    steps: int = stated(20_000, demo=310, smoke=4, source="assumed")
    focus: float = stated(0.0, demo=20.0, source="none; as in the other short runs")
    lr: float = stated(1e-3, demo=3e-3, source="assumed: as the others")
    lesion_share: float = stated(0.5, demo=0.8, source="assumed")
    val_slices: int = stated(10_000, demo=80, smoke=8, source="all; fewer where a run has to be quick")
    ema_decay: float | None = stated(None, demo=0.95, source="none; steadies a short run")
