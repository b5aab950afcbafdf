"""The book: its notebooks in order, what each needs, and about how long it takes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One notebook of the book.

    Args:
        name: The file's name without suffix.
        title: What it does, for tables.
        needs: Notebooks whose results it reads.
        minutes: Estimated minutes on two cores in smoke, demo and (on a GPU) paper.
        first_look: The artefact to name as soon as this notebook is done, if any.
        priority: Higher runs earlier.
        cores: Cores kept for it; two for the first notebook, so that its picture is there soon.
        threads: Threads of torch; 1 unless the notebook runs alone. Results depend on it in their last bits.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ()
    minutes: dict[str, float] = field(default_factory=dict)
    first_look: str = ""
    priority: int = 0
    cores: int = 1
    threads: int = 1


STEPS = (
    Step(
        "00_start_here",
        "a real head CT, an embedded head, the four methods at once, a small U-Net, Dice with its confidence interval",
        minutes={"smoke": 0.6, "demo": 1.2, "paper": 60.0},
        first_look="start_here/first_result.png",
        priority=100,
        cores=2,
    ),
    Step(
        "01_cohorts",
        "what the embedded cohorts hold, PAPL's Table I beside ours, and how close to reality they come",
        minutes={"smoke": 1.0, "demo": 1.4, "paper": 10.0},
    ),
    Step(
        "02_prepare_ncct",
        "from a scanner's file to a network's input, every step scored against the truth; PAPL's Fig. 3, SSL's Fig. 1",
        minutes={"smoke": 0.9, "demo": 1.6, "paper": 20.0},
    ),
    Step(
        "03_prepare_ctp",
        "CT perfusion: deconvolution by hand, maps against the truth over noise, and the ceiling of what maps can find",
        minutes={"smoke": 0.7, "demo": 0.6, "paper": 4.0},
    ),
    Step(
        "04_metrics_by_hand",
        "what scores mean: overlap, distances, empty masks, small infarcts, and what a test set can resolve",
        minutes={"smoke": 0.3, "demo": 0.2, "paper": 3.0},
    ),
    Step(
        "05_baseline",
        "a U-Net, unaligned and aligned, on two cohorts, beside three rows that need no network",
        needs=("02_prepare_ncct",),
        minutes={"smoke": 0.5, "demo": 2.2, "paper": 300.0},
    ),
    Step(
        "06_your_own_data",
        "any folder of head CTs: what is wrong with it, prepared cases, a prediction on the scanner's grid",
        needs=("05_baseline",),
        minutes={"smoke": 0.5, "demo": 0.5, "paper": 10.0},
    ),
    Step(
        "07_tissue_and_sides",
        "tissue maps, the other side of the head, and the MR on the CT, each against the truth",
        minutes={"smoke": 0.8, "demo": 0.9, "paper": 20.0},
    ),
    Step(
        "10_pseudo_dwi_synthesis",
        "pseudo-DWI: bolus window, weight map and contextual loss by hand, and the generators of Wang's Tables 1 and 2",
        minutes={"smoke": 0.8, "demo": 6.5, "paper": 4000.0},
        priority=10,
    ),
    Step(
        "11_pseudo_dwi_slnet",
        "SLNet: switchable normalisation, excitation and losses by hand, and the networks of Wang's Tables 3, 4 and 5",
        minutes={"smoke": 0.8, "demo": 7.5, "paper": 5000.0},
        priority=10,
    ),
    Step(
        "12_pseudo_dwi_results",
        "every table and figure of Wang et al. 2020, published beside ours, with intervals and paired tests",
        needs=("10_pseudo_dwi_synthesis", "11_pseudo_dwi_slnet"),
        minutes={"smoke": 0.6, "demo": 1.1, "paper": 10.0},
    ),
    Step(
        "20_adn_alignment",
        "ADN: heads straightened by their own symmetry, against the truth, and the methods that ADN is compared with",
        minutes={"smoke": 0.8, "demo": 3.3, "paper": 3000.0},
        priority=5,
    ),
    Step(
        "21_adn_disentangle",
        "ADN: pathological and intrinsic asymmetry told apart, scored against heads rendered with and without infarct",
        minutes={"smoke": 0.8, "demo": 5.5, "paper": 3000.0},
        priority=5,
    ),
    Step(
        "22_adn_results",
        "every table and figure of Ni et al. 2022, published beside ours, and ADN on a real head",
        needs=("20_adn_alignment", "21_adn_disentangle"),
        minutes={"smoke": 0.5, "demo": 0.5, "paper": 20.0},
    ),
    Step(
        "30_ssl_nnunet_pretraining",
        "self-supervised nnU-Net: plan, views, self-distillation by hand, nine pre-trainings, collapse, two channels",
        minutes={"smoke": 0.8, "demo": 5.5, "paper": 10000.0},
        priority=4,
    ),
    Step(
        "31_ssl_nnunet_finetuning",
        "nnU-Net from scratch and from pre-trained encoders: deep supervision by hand, three seeds, frozen encoders",
        minutes={"smoke": 1.0, "demo": 5.0, "paper": 10000.0},
        priority=4,
    ),
    Step(
        "32_ssl_nnunet_results",
        "every table of Seia et al. 2023 and Figures 2-7, published beside ours, with intervals and paired tests",
        needs=("30_ssl_nnunet_pretraining", "31_ssl_nnunet_finetuning"),
        minutes={"smoke": 0.8, "demo": 0.7, "paper": 20.0},
    ),
    Step(
        "33_ssl_nnunet_representations",
        "what the pre-trained encoders know: t-SNE, neighbours and integrated gradients, each against chance",
        needs=("30_ssl_nnunet_pretraining",),
        minutes={"smoke": 0.6, "demo": 1.0, "paper": 20.0},
    ),
    Step(
        "40_papl_knowledge",
        "PAPL's stage 1: regions and their mirror images, contrastive losses by hand, what an encoder then tells apart",
        minutes={"smoke": 0.7, "demo": 0.8, "paper": 2000.0},
        priority=3,
    ),
    Step(
        "41_papl_refinement",
        "PAPL's stages 2 and 3: neighbouring slices and bilateral salience by hand, omega, mu and the HU window swept",
        needs=("40_papl_knowledge",),
        minutes={"smoke": 0.8, "demo": 2.0, "paper": 4000.0},
        priority=3,
    ),
    Step(
        "42_papl_comparison",
        "PAPL against twelve networks on two cohorts, on raw and on aligned heads: Sun's Table II",
        minutes={"smoke": 1.5, "demo": 13.0, "paper": 20000.0},
        priority=4,
    ),
    Step(
        "43_papl_ablations",
        "what each part of PAPL adds, on three backbones and over its weights: Sun's Tables III, IV and VI to VIII",
        needs=("40_papl_knowledge", "41_papl_refinement"),
        minutes={"smoke": 1.0, "demo": 5.0, "paper": 10000.0},
        priority=3,
    ),
    Step(
        "44_papl_results",
        "small and large infarcts, contours, agreement of volumes, and the paper's statements tested on our scans",
        needs=("42_papl_comparison", "43_papl_ablations"),
        minutes={"smoke": 0.8, "demo": 1.5, "paper": 20.0},
    ),
    Step(
        "50_agreement",
        "all rows of the four papers on the same scans: ranks, pairs, volumes, and what 19 to 52 scans can show",
        needs=(
            "05_baseline",
            "12_pseudo_dwi_results",
            "22_adn_results",
            "32_ssl_nnunet_results",
            "44_papl_results",
        ),
        minutes={"smoke": 0.8, "demo": 1.2, "paper": 20.0},
    ),
    Step(
        "51_explanations",
        "four networks explained on the same heads: attributions and features, each put to a test that it can fail",
        minutes={"smoke": 0.8, "demo": 1.8, "paper": 60.0},
    ),
    Step(
        "52_claims",
        "every claim of the four papers: what printed numbers carry, what our trainings say, and what they could show",
        minutes={"smoke": 0.5, "demo": 0.5, "paper": 0.5},
    ),
    Step(
        "90_regenerate_everything",
        "the ledgers, and the scoreboard of all 54 tables and figures",
        needs=(
            "00_start_here",
            "01_cohorts",
            "02_prepare_ncct",
            "03_prepare_ctp",
            "04_metrics_by_hand",
            "05_baseline",
            "06_your_own_data",
            "07_tissue_and_sides",
            "10_pseudo_dwi_synthesis",
            "11_pseudo_dwi_slnet",
            "12_pseudo_dwi_results",
            "20_adn_alignment",
            "21_adn_disentangle",
            "22_adn_results",
            "30_ssl_nnunet_pretraining",
            "31_ssl_nnunet_finetuning",
            "32_ssl_nnunet_results",
            "33_ssl_nnunet_representations",
            "40_papl_knowledge",
            "41_papl_refinement",
            "42_papl_comparison",
            "43_papl_ablations",
            "44_papl_results",
            "50_agreement",
            "51_explanations",
            "52_claims",
        ),
        minutes={"smoke": 0.2, "demo": 0.2, "paper": 0.2},
    ),
)
BY_NAME = {step.name: step for step in STEPS}
