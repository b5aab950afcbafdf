"""Hyper-parameters of Wang et al. 2020: what its trainings share, and those of synthesis, segmentation and chain."""

from __future__ import annotations

from dataclasses import dataclass

from strokelib.recipe import Recipe, stated

SEC = "Wang et al. 2020, Sec. 4.1"
SILENT = "assumed: not stated"
EPOCHS = f"{SEC}: 300 epochs of 65 scans x 5.34 slices in batches of 5"
NARROW = "Wang et al. 2020, Table 3: 31.04 M parameters; narrow where a laptop trains it"
ROW = "the row of the table"


@dataclass(frozen=True)
class InputRecipe(Recipe):
    """How a scan becomes the networks' inputs: what :func:`strokelib.pseudo_dwi.sampling.network_inputs` takes."""

    k: int = stated(5, source="Wang et al. 2020, Sec. 3.1")
    frames: int = stated(6, source=SEC)
    tmax: str = stated("robust", source="assumed: scaling of maps and frames is not stated")
    smooth: bool = stated(False, source=SILENT)
    dwi_top: float = stated(99.0, demo=99.9, source=f"{SEC}; 99 cuts small lesions to the brightness of tissue")


@dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """What every training of the paper shares."""

    width: int = stated(64, demo=12, smoke=4, source=NARROW)
    depth: int = stated(5, smoke=4, source="Wang et al. 2020, Table 3: 31.04 M parameters")
    crop: tuple[int, int] | None = stated(None, demo=(96, 80), source="whole slices; here a window about the brain")
    patch: tuple[int, int] | None = stated(None, demo=(48, 48), source="whole slices; here parts of them to train on")
    batch: int = stated(5, source=SEC)
    steps: int = stated(20_820, demo=400, smoke=4, source=EPOCHS)
    lr: float = stated(0.002, source=SEC)
    drop: float = stated(0.2, source=SEC)
    drop_after: float = stated(0.6, source=f"{SEC}: after 180 of 300 epochs")
    smoothing: float = stated(0.99, source="assumed: RMSprop's averaging constant is not stated")
    ema_decay: float | None = stated(None, demo=0.95, source="none; steadies a run of a few hundred steps")
    clip_norm: float | None = stated(None, demo=12.0, source=SILENT)
    lesion_share: float | None = stated(None, demo=0.9, source="none; the demo sees each slice a few times")
    mirror: float = stated(0.5, source="assumed: augmentation is not stated")
    w: float = stated(1.5, source=SEC)
    decay_px: float = stated(50.0, source=f"{SEC}: D, in pixels (assumed)")
    validations: int = stated(50, demo=6, smoke=2, source=SILENT)
    val_slices: int = stated(10_000, demo=18, smoke=6, source="all; fewer where a run has to be quick")


@dataclass(frozen=True)
class SynthesisRecipe(TrainingRecipe):
    """A pseudo-DWI generator, with its extractor where its input has one."""

    steps: int = stated(20_820, demo=285, smoke=4, source=EPOCHS)
    inputs: tuple[str, ...] = stated(("maps", "mip", "extracted"), source=ROW)
    loss: str = stated("w-L2 + l_h1", source=ROW)
    supervised: bool = stated(True, source="Wang et al. 2020, Sec. 3.4: L_e; without it F_h*")
    gamma: float = stated(1.2, source=SEC)
    beta: float = stated(1.0, source=SEC)
    context: str = stated("frozen", source="ours; the paper trains it along, by name 'joint' (erratum W8)")
    judges_width: int = stated(64, demo=8, smoke=4, source="pix2pixHD, which the paper cites; not stated")
    conditional: bool = stated(True, source="pix2pixHD, which the paper cites: the discriminator sees the input too")


@dataclass(frozen=True)
class SegmentationRecipe(TrainingRecipe):
    """A network that segments the lesion from images or maps."""

    steps: int = stated(20_820, demo=225, smoke=4, source=EPOCHS)
    inputs: tuple[str, ...] = stated(("maps",), source=ROW)
    network: str = stated("SLNet", source=ROW)
    loss: str = stated("L_WCE + L_HGD", source=ROW)


@dataclass(frozen=True)
class JudgeRecipe(SegmentationRecipe):
    """The plain U-Net by whose Dice Tables 1 and 2 judge what a generator draws."""

    steps: int = stated(20_820, demo=400, smoke=4, source=EPOCHS)
    patch: tuple[int, int] | None = stated(None, demo=(32, 32), source="whole slices; here small parts, full of lesion")
    inputs: tuple[str, ...] = stated(("pseudo_dwi",), source="Wang et al. 2020, Sec. 4.2.1")
    network: str = stated("UNet", source="Wang et al. 2020, Sec. 4.2.1")
    loss: str = stated("L_CE", source="Wang et al. 2020, Sec. 4.2.1")


@dataclass(frozen=True)
class ChainRecipe(TrainingRecipe):
    """Extractor, generator and SLNet trained together."""

    steps: int = stated(20_820, demo=185, smoke=4, source=EPOCHS)
    inputs: tuple[str, ...] = stated(("maps", "mip", "frames"), source=ROW)
    segment_maps: bool = stated(False, source=ROW)
    alpha: float = stated(1.0, source=SEC)
    beta: float = stated(1.0, source=SEC)
    gamma: float = stated(1.2, source=SEC)
    context: str = stated("frozen", source="ours; the paper trains it along, by name 'joint' (erratum W8)")
