import dataclasses

import matplotlib as mpl
import numpy as np
import pytest
import torch

from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError
from strokelib.pseudo_dwi.block_diagrams import PipelineExample, fig02_pipeline, fig04_context_encoder, fig05_slnet
from strokelib.pseudo_dwi.model import ContextEncoder, PseudoDwi, SLNet

mpl.use("Agg")
H, W = 40, 32


def _chain(**options):
    with torch.device("meta"):
        return PseudoDwi(**{"width": 4, "depth": 3, **options})


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    brain, lesion = np.zeros((H, W), bool), np.zeros((H, W), bool)
    brain[5:35, 4:28], lesion[20:26, 18:24] = True, True
    one = rng.uniform(size=(H, W))
    weight = np.where(lesion, 1.5, 0.6)
    return PipelineExample(np.stack([one] * 4), one, np.stack([one] * 6), one, one, one, one, lesion, weight, brain)


@pytest.fixture
def case():
    rng = np.random.default_rng(1)
    brain, lesion = np.zeros((3, H, W), bool), np.zeros((3, H, W), bool)
    brain[:, 5:35, 4:28], lesion[1, 20:26, 18:24] = True, True
    counts = {"maps": 4, "mip": 1, "frames": 6, "dwi": 1, "weight": 1}
    channels = {name: rng.uniform(size=(n, 3, H, W)).astype(np.float32) for name, n in counts.items()}
    image = Volume(np.zeros((3, H, W), np.float32), np.diag([-2.0, -2.0, 5.0, 1.0]))
    who = {"id": "made-1", "patient": "made", "cohort": "isles2018", "split": "test"}
    return Case(**who, image=image, lesion=lesion, brain=brain, channels=channels)


def _said(figure):
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


def _pictures(figure):
    return sum(len(ax.images) for ax in figure.axes)


def test_the_pipeline_shows_every_input_every_output_and_every_target(example):
    figure = fig02_pipeline(_chain(), example)
    assert _pictures(figure) == 6 + 1 + 1 + 4 + 1 + 1 + 3  # frames, feature, maximum, maps, pseudo-DWI, lesion, targets
    said = _said(figure)
    for symbol in (
        r"$\Phi_e$",
        r"$\Phi_g$",
        r"$\Phi_s$",
        "$L_e$",
        "$L_g$",
        "$L_s$",
        "$I^*$",
        "$F_h$",
        "$F_l$",
        "$F_o$",
    ):
        assert symbol in said
    assert [line for line in said.splitlines() if "→" in line] == ["6 → 1 channels"] * 2 + ["1 → 2 channels"]


def test_the_published_pipeline_has_the_published_sizes(example):
    said = _said(fig02_pipeline(_chain(width=64, depth=5), example))
    assert said.count("31.04 M") == 2
    assert "33.83 M" in said  # SLNet with one channel in; Table 3 counts four
    assert "256 × 256" in said


def test_what_a_chain_lacks_is_not_drawn(example):
    figure = fig02_pipeline(_chain(inputs=("maps",)), dataclasses.replace(example, high_level=None))
    said = _said(figure)
    assert _pictures(figure) == 4 + 1 + 1 + 3
    for symbol in (r"$\Phi_e$", "$L_e$", "$I^*$", "$F_h$", "$F_l$", r"\beta"):
        assert symbol not in said
    assert "4 → 1 channels" in said


def test_maps_that_the_segmenter_sees_too_get_an_arrow_and_count_as_channels(example):
    plain, beside = (fig02_pipeline(_chain(segment_maps=s), example) for s in (False, True))
    arrows = [sum(type(p).__name__ == "FancyArrowPatch" for p in f.axes[0].patches) for f in (plain, beside)]
    assert arrows[1] == arrows[0] + 1
    assert "5 → 2 channels" in _said(beside)


def test_an_extractor_without_its_output_is_refused(example):
    with pytest.raises(DataError, match="high-level"):
        fig02_pipeline(_chain(), dataclasses.replace(example, high_level=None))


def test_an_example_is_the_slice_with_most_lesion_of_a_scan(case, example):
    values = np.arange(3.0)[:, None, None] * np.ones((3, H, W))
    found = PipelineExample.of(case, values, values / 10, values / 100)
    assert (found.image[0, 0], found.probability[0, 0], found.high_level[0, 0]) == (1.0, 0.1, 0.01)
    np.testing.assert_array_equal(found.frames, case.channels["frames"][:, 1])
    np.testing.assert_array_equal(found.lesion, case.lesion[1])
    assert found.spacing_yx == (2.0, 2.0)
    assert PipelineExample.of(case, values, values).high_level is None
    assert found.maps.shape == example.maps.shape


def test_an_example_without_a_dwi_is_refused(case):
    del case.channels["dwi"]
    with pytest.raises(DataError, match="dwi"):
        PipelineExample.of(case, np.zeros((3, H, W)), np.zeros((3, H, W)))


def test_the_context_encoder_is_drawn_from_image_to_code_with_its_own_widths():
    said = _said(fig04_context_encoder(ContextEncoder()))
    assert said.count("conv 3 × 3") == 5
    assert said.count("average pool") == 2
    assert "256 × 256" in said.splitlines()
    assert "frozen" in said
    other = _said(fig04_context_encoder(ContextEncoder(widths=(8, 8, 24, 8, 12), frozen=False)))
    assert "24" in other.splitlines()
    assert "trained" in other


def test_slnet_is_drawn_with_its_normalisation_its_excitation_and_its_parameters():
    with torch.device("meta"):
        published, plain = SLNet(4), SLNet(4, excitation=False, switchable=False)
    figure = fig05_slnet(published)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"SE", "conv 3 × 3 + SN + ReLU"} <= set(labels)
    assert {"33.84 M", "SE blocks", "256 × 256", "16 × 16"} <= set(_said(figure).splitlines())
    without = fig05_slnet(plain)
    labels = [text.get_text() for text in without.axes[0].get_legend().get_texts()]
    assert "SE" not in labels
    assert "conv 3 × 3 + BN + ReLU" in labels
    assert "31.04 M" in _said(without).splitlines()
