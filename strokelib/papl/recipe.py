"""Hyper-parameters of Sun et al. 2024: how slices are made, stage 1, and stages 2 and 3."""

from __future__ import annotations

from dataclasses import dataclass

from strokelib.data.augment import Augmentation
from strokelib.recipe import Recipe, stated

SEC = "Sun et al. 2024, Sec. IV.B"
SILENT = "assumed: not stated"
ROW = "the row of the table"
PIXELS = f"{SEC}: 256 x 256 pixels; the demo's heads have pixels of 2 mm, of which it takes means of 2 x 2"
WINDOW = f"{SEC}; the demo keeps what is below 30 HU, where oedema lies (P26)"
SLICES = "about 6,200 slices (assumed)"
FORM = "the recommended reading of the printed equation; the printed form by name"
SHOWN = "the paper's figures show some epochs of some trainings"


@dataclass(frozen=True)
class SliceRecipe(Recipe):
    """What every training of the paper shares: the network, and how a head becomes slices."""

    network: str = stated("U-Net", source=ROW)
    width: int | None = stated(None, demo=8, smoke=4, source="each network's own; narrow where a laptop trains it")
    depth: int | None = stated(None, demo=4, source="each network's own; one level less of U-Nets on 48 x 48 pixels")
    aligned: bool = stated(True, source=ROW)
    window_hu: tuple[float, float] = stated((30.0, 100.0), demo=(0.0, 80.0), source=WINDOW)
    pool: int = stated(1, demo=2, source=PIXELS)
    crop: tuple[int, int] | None = stated(None, demo=(96, 96), source="none; here a window about brain and midline")
    smallest_brain_ml: float = stated(0.0, demo=5.0, source=f"{SILENT}; a scan begins and ends with this much brain")
    schedule_power: float = stated(0.0, demo=0.9, source=f"{SILENT}: 0 keeps the rate; a short run needs it to fall")
    weight_decay: float = stated(0.0, demo=1e-4, source=SILENT)
    clip_norm: float = stated(12.0, source=SILENT)
    lesion_share: float | None = stated(None, demo=0.7, source=f"{SILENT}: that of the data; more in a short run")
    mirror: float = stated(0.5, source=SILENT)
    zoom: float = stated(0.1, demo=0.0, source=f"{SILENT}; off where each slice is seen about once")
    contrast: float = stated(0.1, demo=0.0, source=f"{SILENT}; off where each slice is seen about once")
    brightness: float = stated(0.1, demo=0.0, source=f"{SILENT}; off where each slice is seen about once")
    noise: float = stated(0.05, demo=0.0, source=f"{SILENT}; off where each slice is seen about once")

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of what the network sees, where a crop says it."""
        return None if self.crop is None else (self.crop[0] // self.pool, self.crop[1] // self.pool)

    def augmentation(self) -> Augmentation:
        """What keeps the midline where it is; raw slices get no more than aligned ones, so that both are comparable."""
        return Augmentation(
            mirror=self.mirror,
            rotation_deg=0.0,
            zoom=self.zoom,
            shift=0.0,
            contrast=self.contrast,
            brightness=self.brightness,
            noise=self.noise,
        )


@dataclass(frozen=True)
class KnowledgeRecipe(SliceRecipe):
    """Stage 1: the encoder learns which asymmetries are pathological, or a task that it is compared with."""

    task: str = stated("asymmetry", source=f"{ROW}; PCL and GCL in Table VI")
    lambda1: float = stated(0.6, source=f"{SEC}, Table VII")
    lambda2: float = stated(0.3, source=f"{SEC}, Table VII")
    inter: str = stated("recommended", source=FORM)
    intra: str = stated("recommended", source=FORM)
    halves: str = stated("recommended", source=FORM)
    maps: str = stated("normalised", source=FORM)
    direction: str = stated("symmetrised", source=FORM)
    aim: str = stated("minimise", source="with both losses as printed the sum has to be maximised (P2)")
    margin: float = stated(1.0, source="none in the paper (P6); above what the divergence can reach behind a ReLU")
    tau: float = stated(0.1, source=SEC)
    length: int = stated(128, demo=32, smoke=8, source=f"{SILENT}: length of an embedding")
    samples: int = stated(8, source=f"{SEC}: windows a slice")
    positive_share: float = stated(0.05, source=f"{SILENT} (P11)")
    quarters: str = stated("original", source="Chaitanya et al. 2020; 'supcon' as re-run by Zeng et al. 2021")
    batch: int = stated(256, demo=48, smoke=16, source=SEC)
    steps: int = stated(38_750, demo=60, smoke=4, source=f"{SEC}: 200 epochs, eight windows of {SLICES}")
    lr: float = stated(1e-4, demo=2e-3, source=SEC)
    validations: int = stated(50, demo=6, smoke=2, source=SILENT)
    val_samples: int = stated(4096, demo=256, smoke=32, source=SILENT)
    snapshots: tuple[float, ...] = stated((), source=SHOWN)


@dataclass(frozen=True)
class SegmentationRecipe(SliceRecipe):
    """Stages 2 and 3 together, and the plain training of every network that PAPL is compared with."""

    beta1: float = stated(1.0, source=f"{ROW}; 0.8 beside FCM and RPRS: {SEC}, Table VIII")
    beta2: float = stated(0.0, source=f"{ROW}; 0.8: {SEC}, Table VIII")
    beta3: float = stated(0.0, source=f"{ROW}; 0.2 at first: {SEC}, Table VIII")
    growth: float = stated(1.2, source=f"{SEC}: of beta3, every 20 epochs")
    phases: int = stated(9, source=f"{SEC}: 180 epochs in steps of 20")
    triplets: str = stated("recommended", source=FORM)
    distance: str = stated("means", source=FORM)
    omega: float = stated(1.0, source=f"{SILENT} (P21)")
    mu: float = stated(1.0, source=f"{SILENT} (P21)")
    gradient: str = stated("stopped", source=FORM)
    base: str = stated("clamped", source=FORM)
    reduction: str = stated("means", source=FORM)
    scale: float = stated(1.0, source="factor on the refinement's means (P23)")
    focus: float = stated(
        0.0, demo=8.0, source="ours: more weight of missed infarct, falling; short runs find none else"
    )
    start: str = stated("", source="name of the training of stage 1 that it starts from")
    batch: int = stated(32, demo=8, smoke=2, source=f"{SEC}; triplets (P20)")
    steps: int = stated(35_000, demo=205, smoke=4, source=f"{SEC}: 180 epochs of {SLICES}")
    lr: float = stated(3e-4, demo=5e-3, source=SEC)
    validations: int = stated(50, demo=8, smoke=2, source=SILENT)
    val_slices: int = stated(10_000, demo=200, smoke=16, source=SILENT)
    snapshots: tuple[float, ...] = stated((), source=SHOWN)
