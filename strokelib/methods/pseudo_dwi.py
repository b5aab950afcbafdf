"""The experiments of Wang et al. 2020: every row of its Tables 1 to 5, trained once and scored on the test scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib.data.cases import Case, channel
from strokelib.data.ctp import load_ctp_parts
from strokelib.methods.method import Method
from strokelib.methods.perfusion_rows import PERFUSION_REFERENCES, perfusion_reference_metrics
from strokelib.methods.scoring import COLUMNS, score, status, versus_references, weakest
from strokelib.methods.scoring import scores_of as scores_of
from strokelib.methods.scoring import weakest_of as weakest_of
from strokelib.methods.training import Trained, predict, train_method
from strokelib.metrics import image_scores, unit_of
from strokelib.pseudo_dwi import chain, segmentation, synthesis
from strokelib.pseudo_dwi.losses import SEGMENTATION_LOSSES, SYNTHESIS_LOSSES
from strokelib.pseudo_dwi.recipe import ChainRecipe, InputRecipe, JudgeRecipe, SegmentationRecipe, SynthesisRecipe
from strokelib.pseudo_dwi.sampling import network_inputs
from strokelib.recipe import Recipe
from strokelib.settings import Profile, Settings

if TYPE_CHECKING:
    import pandas as pd

PAPER = "Wang et al. 2020"
_MODULES = (
    *(f"strokelib.nn.{name}" for name in ("unet", "normalisation", "excitation")),
    *(f"strokelib.pseudo_dwi.{name}" for name in ("fitting", "losses", "model", "sampling", "slices")),
)
_COMPARED = tuple(f"strokelib.nn.baselines.{name}" for name in ("fcn", "r2unet", "resunet"))
SYNTHESIS = Method(
    key="pseudo_dwi_synthesis",
    title="pseudo-DWI generator",
    paper=PAPER,
    recipe=SynthesisRecipe,
    build=synthesis.build,
    fit=synthesis.fit,
    predict=synthesis.synthesise,
    modules=(*_MODULES, "strokelib.pseudo_dwi.synthesis", "strokelib.pseudo_dwi.discriminator"),
    validation=synthesis.EXPLAINED,
)
SEGMENTATION = Method(
    key="pseudo_dwi_segmentation",
    title="segmenter",
    paper=PAPER,
    recipe=SegmentationRecipe,
    build=segmentation.build,
    fit=segmentation.fit,
    predict=segmentation.segment,
    modules=(*_MODULES, "strokelib.pseudo_dwi.segmentation", *_COMPARED),
)
JUDGE = dataclasses.replace(SEGMENTATION, key="pseudo_dwi_judge", title="U-Net on what was drawn", recipe=JudgeRecipe)
CHAIN = Method(
    key="pseudo_dwi",
    title="pseudo-DWI and SLNet, end to end",
    paper=PAPER,
    recipe=ChainRecipe,
    build=chain.build,
    fit=chain.fit,
    predict=chain.segment,
    modules=(*_MODULES, "strokelib.pseudo_dwi.chain", "strokelib.pseudo_dwi.segmentation"),
)

PROPOSED_LOSS = "w-L2 + l_h1"
REAL = "Real DWI"
# Rows by their printed names -> what they change of the recipe.
GENERATED_FROM: dict[str, dict[str, Any]] = {
    "F_o": {"inputs": ("maps",)},
    "F_o,F_l": {"inputs": ("maps", "mip")},
    "F_o,F_l,F_h*": {"inputs": ("maps", "mip", "extracted"), "supervised": False},
    "F_o,F_l,F_h": {"inputs": ("maps", "mip", "extracted")},
}
CHAINS: dict[str, dict[str, Any]] = {
    "DWI^o": {"inputs": ("maps",)},
    "DWI^{o,l}": {"inputs": ("maps", "mip")},
    "DWI^{o,l,h}": {"inputs": ("maps", "mip", "frames")},
    "F_o + DWI^{o,l,h}": {"inputs": ("maps", "mip", "frames"), "segment_maps": True},
}
SEQUENTIAL = "DWI^{o,l,h}(s)"
TABLE5 = ("CTA (I*)", "F_o", "DWI^o", "DWI^{o,l}", "DWI^{o,l,h}", SEQUENTIAL, "F_o + DWI^{o,l,h}", REAL)


@dataclass(frozen=True)
class Outcome:
    """One row of a table.

    Args:
        row: Its printed name.
        trained: What was trained for it, in order; the last one segments.
        scores: Columns method (the row), case, metric, value, unit, of the test scans.
        status: ``1 seed``, ``undertrained`` or ``did not learn``.
        probability: Test case -> (D, H, W) float16.
        image: Test case -> pseudo-DWI (D, H, W) float16; empty where there is none.
    """

    row: str
    trained: tuple[Trained, ...]
    scores: pd.DataFrame
    status: str
    probability: dict[str, np.ndarray]
    image: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Training, validation and test scans with their network inputs, and how to train on them.

    Args:
        scans: Training, validation and test scans as they were prepared, for the reference rows.
        parts: The same with the networks' inputs, from :func:`strokelib.pseudo_dwi.sampling.network_inputs`.
        profile: Which recipes.
        seed: Of all trainings and resamples.
        out: Folder of trained models and scores.
        changes: Recipe values that differ from the profile's, in every training.
    """

    scans: tuple[Sequence[Case], Sequence[Case], Sequence[Case]]
    parts: tuple[Sequence[Case], Sequence[Case], Sequence[Case]]
    profile: Profile
    seed: int
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def with_dwi(self) -> bool:
        """Whether every scan has a real DWI; the public archive of ISLES 2018 has none."""
        return all("dwi" in case.channels for part in self.parts for case in part)

    def recipe(self, method: Method, **changes: Any) -> Recipe:
        """The recipe of a method at the study's profile."""
        return method.recipe.at(self.profile, **{**self.changes, **changes})

    def train(self, method: Method, parts: Sequence[Sequence[Case]] = (), **changes: Any) -> Trained:
        """Train a method on the study's scans, or on ``parts`` made of them."""
        train, val, *_ = parts or self.parts
        return train_method(method, self.recipe(method, **changes), train, val, seed=self.seed, out=self.out)

    def references(self) -> pd.DataFrame:
        """Scores of the rows that need no network, once computed."""
        return perfusion_reference_metrics(*self.scans, out=self.out)

    def outcome(
        self,
        row: str,
        trained: Sequence[Trained],
        test: Sequence[Case] = (),
        image: Mapping[str, np.ndarray] | None = None,
    ) -> Outcome:
        """Score the last of some trainings on the test scans, and the images that it saw.

        Args:
            row: Printed name.
            trained: In order; the last one segments.
            test: The test scans with what it needs; the study's by default.
            image: Pseudo-DWI of each test scan, for its image quality.
        """
        import pandas as pd

        cases = test or self.parts[2]
        probability = predict(trained[-1], cases)
        scores = score(row, probability, cases, out=trained[-1].folder)
        _, margin = versus_references(pd.concat([scores, self.references()]), row, PERFUSION_REFERENCES, seed=self.seed)
        said = weakest([status(one, margin) for one in trained])
        if image is not None:
            scores = pd.concat([scores, quality(row, image, cases)], ignore_index=True)
        kept = {} if image is None else {case.id: image[case.id] for case in cases}
        return Outcome(row, tuple(trained), scores, said, probability, kept)

    def generated(self, row: str, **changes: Any) -> Outcome:
        """A generator, and a U-Net trained with cross-entropy on what it makes: a row of Table 1 or 2."""
        generator = self.train(SYNTHESIS, **changes)
        images = predict(generator, [case for part in self.parts for case in part])
        parts = [with_channel(part, "pseudo_dwi", images) for part in self.parts]
        segmenter = self.train(JUDGE, parts)
        return self.outcome(row, (generator, segmenter), parts[2], images)

    def segmented(self, row: str, **changes: Any) -> Outcome:
        """A segmenter trained on given channels: a row of Table 3, 4 or 5, or real DWI in Table 2."""
        return self.outcome(row, (self.train(SEGMENTATION, **changes),))

    def chained(self, row: str, **changes: Any) -> Outcome:
        """The chain trained end to end: a row of Table 5."""
        return self.outcome(row, (self.train(CHAIN, **changes),))

    def sequential(self) -> Outcome:
        """Extractor, generator and SLNet trained one after another: the row "(s)" of Table 5."""
        everyone = [case for part in self.parts for case in part]
        extractor = self.train(SYNTHESIS, inputs=("frames",), loss=PROPOSED_LOSS)
        features = predict(extractor, everyone)
        parts = [with_channel(part, "high_level", features) for part in self.parts]
        generator = self.train(SYNTHESIS, parts, inputs=("maps", "mip", "high_level"), loss=PROPOSED_LOSS)
        images = predict(generator, [case for part in parts for case in part])
        parts = [with_channel(part, "pseudo_dwi", images) for part in parts]
        segmenter = self.train(SEGMENTATION, parts, inputs=("pseudo_dwi",))
        return self.outcome(SEQUENTIAL, (extractor, generator, segmenter), parts[2], images)

    def table1(self) -> dict[str, Outcome]:
        """Seven synthesis losses on the perfusion maps."""
        return {row: self.generated(row, inputs=("maps",), loss=row) for row in SYNTHESIS_LOSSES}

    def table2(self) -> dict[str, Outcome]:
        """Four inputs of the generator, and real DWI."""
        rows = {row: self.generated(row, loss=PROPOSED_LOSS, **changes) for row, changes in GENERATED_FROM.items()}
        return rows | {REAL: self.outcome(REAL, (self.train(JUDGE, inputs=("dwi",)),))}

    def table3(self) -> dict[str, Outcome]:
        """Seven networks on the perfusion maps."""
        return {row: self.segmented(row, network=row, loss="L_CE") for row in segmentation.NETWORKS}

    def table4(self) -> dict[str, Outcome]:
        """Six losses of SLNet on the perfusion maps."""
        return {row: self.segmented(row, loss=row) for row in SEGMENTATION_LOSSES}

    def table5(self) -> dict[str, Outcome]:
        """Eight inputs of SLNet; those that need a DWI are left out where there is none."""
        rows = {"CTA (I*)": self.segmented("CTA (I*)", inputs=("frames",)), "F_o": self.segmented("F_o")}
        if self.with_dwi:
            rows |= {row: self.chained(row, **changes) for row, changes in CHAINS.items()}
            rows |= {SEQUENTIAL: self.sequential(), REAL: self.segmented(REAL, inputs=("dwi",))}
        return {row: rows[row] for row in TABLE5 if row in rows}


def load_study(settings: Settings, *, progress: bool = False, **changes: Any) -> Study:
    """The perfusion scans of a run with their inputs.

    Args:
        settings: Of a run about ``isles2018``; paper takes slices of 256 x 256, other profiles pixels of 2 mm.
        progress: Show a progress bar where scans are rendered or prepared.
        changes: Recipe values that differ from the profile's, in every training.
    """
    grid = "published" if settings.profile is Profile.PAPER else "prepared"
    scans = load_ctp_parts(settings, grid=grid, progress=progress, train=None, val=None, test=None)
    how = dataclasses.asdict(InputRecipe.at(settings.profile))
    parts = tuple([network_inputs(case, **how) for case in part] for part in scans)
    return Study(scans, parts, settings.profile, settings.seed, settings.runs / "models", changes)


def with_channel(cases: Sequence[Case], name: str, maps: Mapping[str, np.ndarray]) -> list[Case]:
    """The cases with one channel more, (1, D, H, W) float32, from maps (D, H, W) by case."""
    return [
        dataclasses.replace(case, channels=case.channels | {name: np.asarray(maps[case.id], np.float32)[None]})
        for case in cases
    ]


def quality(row: str, images: Mapping[str, np.ndarray], cases: Sequence[Case]) -> pd.DataFrame:
    """SSIM and PSNR of pseudo-DWI against the real one, global and around the lesion, a row a case and metric."""
    import pandas as pd

    names = ("ssim", "psnr_db", "local_ssim", "local_psnr_db")
    rows = []
    for case in cases:
        found = image_scores(np.asarray(images[case.id], np.float32), channel(case, "dwi")[0], case.lesion)
        rows += [(row, case.id, name, getattr(found, name), unit_of(name)) for name in names]
    return pd.DataFrame(rows, columns=COLUMNS)


def folders_of(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Row and place in its trainings -> name of the training's folder: what a figure was made from."""
    return {f"{row}-{k}": one.folder.name for row, out in outcomes.items() for k, one in enumerate(out.trained)}
