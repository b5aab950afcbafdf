import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.errors import DataError
from strokelib.nn.baselines.cenet import CENet
from strokelib.nn.baselines.unet_plus_plus import UNetPlusPlus
from strokelib.nn.unet import UNet
from strokelib.papl.block_diagrams import StagesExample, fig02_architecture
from strokelib.papl.model import PAPL
from strokelib.papl.shape_trace import traced

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


SHAPE = (30, 24)


@pytest.fixture
def example():
    brain, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[3:27, 3:21] = True
    lesion[10:15, 5:9] = True
    image = np.where(brain, 1.0 - 0.5 * lesion, -2.0)
    return StagesExample(image, image, (image, image, image), 0.8 * lesion, lesion, brain, (2.0, 2.0))


def _said(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_trace_of_the_published_u_net_has_its_sizes_and_parameters():
    found = traced(PAPL(UNet(1, 2, 64, 5)))
    assert [shape[1:] for shape in found.levels] == [(64 * 2**n, 256 // 2**n, 256 // 2**n) for n in range(5)]
    assert (found.logits, found.embedding) == ((1, 2, 256, 256), (1, 128))
    assert found.hidden == (1024, 128)
    assert found.encoder + found.decoder == sum(p.numel() for p in UNet(1, 2, 64, 5).parameters())
    assert found.head == 1_180_800


@pytest.mark.parametrize("backbone", [UNet(1, 2, 4, 3), UNetPlusPlus(1, 2, 4, 3), CENet(1, 2, 8)])
def test_any_backbone_can_be_traced_and_drawn_and_stays_as_it_was(backbone, example):
    model = PAPL(backbone).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = traced(model, (64, 64))
    assert found.encoder == sum(p.numel() for p in model.knowledge_parameters()) - found.head
    assert found.logits == (1, 2, 64, 64)
    figure = fig02_architecture(model, example, size=(64, 64))
    assert model.training
    assert all((tensor == before[name]).all() for name, tensor in model.state_dict().items())
    assert str(found.levels[-1][1]) in _said(figure)


def test_the_diagram_names_the_stages_the_weights_and_the_head(example):
    model = PAPL(UNet(1, 2, 4, 3), out=16)
    said = "\n".join(_said(fig02_architecture(model, example, lambdas=(0.5, 0.4), betas=(1.0, 0.9, 0.1))))
    for part in ("knowledge preparation", "formal learning", "examination", r"$\lambda_1$ = 0.5, $\lambda_2$ = 0.4",
                 r"$\beta_3$ = 0.1", "linear 16,\nReLU, linear 16, length 1", "halves of 16 × 64 × 64"):  # fmt: skip
        assert part in said


def test_the_pictures_of_the_last_stage_are_missed_and_false_infarct(example):
    images = fig02_architecture(PAPL(UNet(1, 2, 4, 3)), example, size=(64, 64)).axes[0].images
    missed, false = (image.get_array() for image in images[-2:])
    assert np.ma.max(missed) == pytest.approx(0.2)
    assert np.ma.max(false) == pytest.approx(0.0, abs=1e-12)


def test_pictures_on_another_grid_are_refused(example):
    with pytest.raises(DataError, match="pictures"):
        fig02_architecture(PAPL(UNet(1, 2, 4, 3)), dataclasses.replace(example, positive=np.zeros((5, 5))))
