"""Which training each row of Tables II to VIII shows, as plain data; rows with one training have to show one number."""

from __future__ import annotations

from dataclasses import dataclass

COHORTS = {"AISD": "aisd", "XWHD": "xwhd"}
# Tables of both data sets; the others are of AISD.
ON_BOTH = (2, 3)
NO_TASK, ASYMMETRY, PCL, GCL = TASKS = ("none", "asymmetry", "PCL", "GCL")
# Chosen in Tables VII and VIII.
LAMBDAS, BETAS = (0.6, 0.3), (0.8, 0.8, 0.2)
LAMBDA_SWEEP = ((1.0, 0.1), (0.8, 0.2), LAMBDAS, (0.5, 0.5), (0.4, 0.8))
BETA_SWEEP = (
    (1.0, 0.5, 0.0), (0.9, 0.6, 0.0), (0.8, 0.8, 0.0), (0.6, 0.9, 0.0), (0.5, 1.0, 0.0), (0.8, 0.8, 0.4), BETAS,
    (0.8, 0.8, 0.1),
)  # fmt: skip
Cell = tuple[int, str]


@dataclass(frozen=True)
class Run:
    """One training, but for its cohort and its seed. A weight of 0 switches its term off.

    Args:
        backbone: Its name in Table II.
        aligned: Slices are aligned first, in training and in prediction.
        task: What the encoder learns in stage 1, of :data:`TASKS`; ``none`` starts stage 2 from scratch.
        lambdas: lambda1 of the inter-sample and lambda2 of the intra-sample loss, Eq. 14; (0, 0) but for
            ``asymmetry``.
        betas: beta1 of the segmentation loss, beta2 of FCM and the initial beta3 of RPRS, Eq. 24. Without FCM and RPRS
            it is (1, 0, 0): the plain segmentation loss, with which the compared methods are trained too.
    """

    backbone: str = "U-Net"
    aligned: bool = True
    task: str = NO_TASK
    lambdas: tuple[float, float] = (0.0, 0.0)
    betas: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @property
    def switches(self) -> dict[str, bool]:
        """The columns of Table IV: ``inter``, ``intra``, ``fcm`` and ``rprs``."""
        weights = (*self.lambdas, *self.betas[1:])
        return dict(zip(("inter", "intra", "fcm", "rprs"), (weight > 0 for weight in weights), strict=True))


def _switched(inter: bool, intra: bool, fcm: bool, rprs: bool) -> Run:
    lambdas = (LAMBDAS[0] * inter, LAMBDAS[1] * intra)
    betas = (BETAS[0] if fcm or rprs else 1.0, BETAS[1] * fcm, BETAS[2] * rprs)
    return Run(task=ASYMMETRY if inter or intra else NO_TASK, lambdas=lambdas, betas=betas)


def _papl(backbone: str = "U-Net", betas: tuple[float, float, float] = BETAS) -> Run:
    return Run(backbone, task=ASYMMETRY, lambdas=LAMBDAS, betas=betas)


UNALIGNED = ("U-Net", "Attention U-Net", "CENet", "U-Net++", "TransU-Net")
LESION_SPECIFIC = ("ISP-Net", "X-Net", "CLCI-Net", "SEAN", "ADN", "SAN-Net", "IS-Net")
ALIGNED_TOO = ("U-Net", "CENet", "U-Net++", "TransU-Net")
BACKBONES = ("U-Net", "CENet", "U-Net++")
WITH, WITHOUT = "{} (w/ PAPL)", "{} (w/o PAPL)"

# Table -> row -> training. Names are as printed; a network printed twice in Table II says which one it is.
RUNS: dict[int, dict[str, Run]] = {
    2: {f"{name} (unaligned)" if name in ALIGNED_TOO else name: Run(name, aligned=False) for name in UNALIGNED}
    | {name: Run(name) for name in LESION_SPECIFIC}
    | {f"{name} (aligned)": Run(name) for name in ALIGNED_TOO}
    | {"PAPL": _papl()},
    3: {form.format(name): run for name in BACKBONES for form, run in ((WITHOUT, Run(name)), (WITH, _papl(name)))},
    4: {
        "baseline": Run(),
        "Inter": _switched(True, False, False, False),
        "Inter+Intra": _switched(True, True, False, False),
        "FCM": _switched(False, False, True, False),
        "RPRS": _switched(False, False, False, True),
        "FCM+RPRS": _switched(False, False, True, True),
        "Inter+Intra+FCM": _switched(True, True, True, False),
        "Inter+Intra+RPRS": _switched(True, True, False, True),
        "Inter+Intra+FCM+RPRS": _switched(True, True, True, True),
    },
    5: {name: Run(name) for name in ALIGNED_TOO} | {"PAPL": _papl()},
    6: {
        "none (baseline)": Run(),
        "PCL [28]": Run(task=PCL),
        "GCL [29]": Run(task=GCL),
        "Ours (inter+intra)": _switched(True, True, False, False),
    },
    7: {f"lambda1={a:g};lambda2={b:g}": Run(task=ASYMMETRY, lambdas=(a, b)) for a, b in LAMBDA_SWEEP},
    8: {f"beta1={a:g};beta2={b:g};beta3={c:g}": _papl(betas=(a, b, c)) for a, b, c in BETA_SWEEP},
}
# The row that the others of a table are compared with; in Table III each backbone has its own.
PROPOSED = {
    2: "PAPL",
    4: "Inter+Intra+FCM+RPRS",
    5: "PAPL",
    6: "Ours (inter+intra)",
    7: "lambda1=0.6;lambda2=0.3",
    8: "beta1=0.8;beta2=0.8;beta3=0.2",
}


def proposed_of(number: int, row: str) -> str:
    """The row that a row of a table is compared with.

    Args:
        number: Of the table, 2 to 8.
        row: Of the table, or a reference, which Table III compares with its first backbone.
    """
    if number in PROPOSED:
        return PROPOSED[number]
    own = [name for name in BACKBONES if row in (WITH.format(name), WITHOUT.format(name))]
    return WITH.format((*own, *BACKBONES)[0])


def trainings() -> dict[tuple[str, Run], tuple[Cell, ...]]:
    """Every training that Tables II to VIII need, once: (cohort, run) -> the (table, row) pairs that show it."""
    found: dict[tuple[str, Run], list[Cell]] = {}
    for number, rows in RUNS.items():
        for cohort in COHORTS.values() if number in ON_BOTH else [COHORTS["AISD"]]:
            for row, run in rows.items():
                found.setdefault((cohort, run), []).append((number, row))
    return {key: tuple(cells) for key, cells in found.items()}


def identities() -> dict[Run, tuple[Cell, ...]]:
    """The (table, row) pairs that show one training and so have to show one number, by training.

    Of Table V the average is meant.
    """
    cells = {run: of_run for (cohort, run), of_run in trainings().items() if cohort == COHORTS["AISD"]}
    return {run: of_run for run, of_run in cells.items() if len(of_run) > 1}
