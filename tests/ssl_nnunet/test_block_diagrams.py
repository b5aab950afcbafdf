"""Figures 2 and 3, from live modules on the meta device."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from strokelib.errors import DataError
from strokelib.ssl_nnunet.architecture_diagram import HEAD, SKIP_COLOUR, STRIDED, UP
from strokelib.ssl_nnunet.block_diagrams import (
    LOSS_COLOUR,
    TEACHER_COLOUR,
    fig02_self_distillation,
    fig03_architecture,
)
from strokelib.ssl_nnunet.model import DeepSelfDistillation
from strokelib.ssl_nnunet.network import NNUNet, published_plan_shapes

mpl.use("Agg")
SMALL = {"features": (4, 6, 8), "strides": ((1, 1, 1), (2, 2, 2), (1, 2, 2))}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def distillation(**how):
    with torch.device("meta"):
        return DeepSelfDistillation(1, **(how or published_plan_shapes()))


def network(classes=1, channels=1, **how):
    with torch.device("meta"):
        return NNUNet(channels, classes, **(how or published_plan_shapes()))


def said(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def arrows(figure, colour):
    found = [patch for patch in figure.axes[0].patches if type(patch).__name__ == "FancyArrowPatch"]
    return [patch for patch in found if mpl.colors.same_color(patch.get_edgecolor(), colour)]


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_the_published_self_distillation_has_the_published_sizes():
    texts = said(fig02_self_distillation(distillation()))
    for size in ("16 × 112 × 112", "8 × 56 × 56", "4 × 28 × 28", "2 × 14 × 14", "1 × 7 × 7", "1 × 4 × 4"):
        assert size in texts
    assert [text for text in texts if text in {"32", "64", "128", "256", "320"}] == [
        "32",
        "64",
        "128",
        "256",
        "320",
        "320",
    ]
    lines = "\n".join(texts)
    assert "student: encoder 14.03 M, 6 heads 131.34 M" in lines
    assert "teacher: encoder 14.03 M, head 22.16 M" in lines
    assert "2,048, 2,048 (BN, GELU) and 256" in lines
    assert "K = 65,536" in lines


def test_every_stage_has_a_head_a_loss_and_the_one_target():
    for count, model in ((6, distillation()), (3, distillation(**SMALL, hidden=5, bottleneck=3, out=7))):
        figure = fig02_self_distillation(model, view=(16, 32, 64))
        texts = said(figure)
        for number in range(1, count + 1):
            assert texts.count(rf"head $h_s^{number}$") == 1
            assert texts.count(rf"$L^{number}$") == 1
        assert rf"head $h_s^{count + 1}$" not in texts
        assert texts.count(r"head $h_t$") == 1
        assert texts.count(r"softmax $\div T_s$") == count
        assert len(arrows(figure, TEACHER_COLOUR)) == count
        assert len(arrows(figure, LOSS_COLOUR)) == 1
        assert any(rf"\frac{{1}}{{{count}}}" in text for text in texts)


def test_another_model_is_drawn_with_its_own_numbers():
    model = distillation(**SMALL, hidden=5, bottleneck=3, out=7)
    lines = "\n".join(
        said(fig02_self_distillation(model, view=(8, 20, 12), teacher_temperature=(0.02, 0.05), momentum=0.9))
    )
    for wanted in (
        "8 × 20 × 12",
        "4 × 10 × 6",
        "4 × 5 × 3",
        "5, 5 (BN, GELU) and 3",
        "K = 7",
        "0.02 to 0.05",
        "= 0.9 to 1",
    ):
        assert wanted in lines
    assert "65,536" not in lines


def test_the_gradient_stops_before_the_target_and_the_weights_are_averaged():
    lines = "\n".join(said(fig02_self_distillation(distillation())))
    assert "no gradient" in lines
    assert "moving average of weights" in lines
    assert "centre: $-\\,c$" in lines


def test_views_are_shown_as_pictures_where_they_are_given():
    model, pair = distillation(**SMALL, hidden=5, bottleneck=3, out=7), (np.eye(6), np.ones((6, 6)))
    figure = fig02_self_distillation(model, view=(8, 16, 16), pictures=pair)
    for image, one in zip(figure.axes[0].images, pair, strict=True):
        np.testing.assert_array_equal(image.get_array(), one)
    assert not fig02_self_distillation(model, view=(8, 16, 16)).axes[0].images
    with pytest.raises(DataError, match="pictures"):
        fig02_self_distillation(model, pictures=(np.zeros((1, 6, 6)), np.zeros((6, 6))))


def test_drawing_leaves_the_model_as_it_was():
    model = distillation(**SMALL, hidden=5, bottleneck=3, out=7).train()
    fig02_self_distillation(model, view=(8, 16, 16))
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_the_published_network_has_the_published_sizes_and_weights():
    texts = said(fig03_architecture(network()))
    sizes = ["96 × 160 × 160", "48 × 80 × 80", "24 × 40 × 40", "12 × 20 × 20", "6 × 10 × 10", "6 × 5 × 5"]
    assert [text for text in texts if text in sizes] == sizes
    outputs = [text for text in texts if "w_" in text]
    weights = (0.5333, 0.2667, 0.1333, 0.0667)
    assert outputs == [
        f"1 × {size}\n$w_{i}$ = {weight:.4f}"
        for i, (size, weight) in enumerate(zip(sizes[:4], weights, strict=True), 1)
    ]
    assert {"14.03 M", "640", "512", "64"} <= set(texts)
    assert texts.count("÷ 2 × 2 × 2") == 4
    assert texts.count("÷ 1 × 2 × 2") == 1


def test_parameters_of_the_parts_add_up_to_the_networks_own():
    one = network(2, **SMALL)
    texts = said(fig03_architecture(one, patch=(8, 16, 16)))
    found = {name: int(texts[texts.index(name) + 1]) for name in ("encoder", "decoder", "heads", "parameters")}
    whole = sum(p.numel() for p in one.parameters())
    encoder = sum(p.numel() for p in one.encoder.parameters())
    heads = sum(p.numel() for p in one.heads.parameters())
    assert found == {"encoder": encoder, "decoder": whole - encoder - heads, "heads": heads, "parameters": whole}


def test_arrows_of_steps_skips_and_outputs_are_as_many_as_the_network_has():
    for levels, outputs, one in ((6, 4, network()), (3, 1, network(**SMALL))):
        figure = fig03_architecture(one, patch=(32, 64, 64))
        assert len(arrows(figure, STRIDED)) == levels - 1
        assert len(arrows(figure, UP)) == levels - 1
        assert len(arrows(figure, SKIP_COLOUR)) == levels - 1
        assert len(arrows(figure, HEAD)) == outputs


def test_printed_weights_and_no_deep_supervision_show_at_the_outputs():
    outputs = [text for text in said(fig03_architecture(network(), weights="printed")) if "w_" in text]
    assert [text[-6:] for text in outputs] == ["0.4000", "0.2000", "0.2000", "0.2000"]
    with torch.device("meta"):
        single = NNUNet(1, 2, **published_plan_shapes(), deep_supervision=False)
    outputs = [text for text in said(fig03_architecture(single)) if "w_" in text]
    assert outputs == ["2 × 96 × 160 × 160\n$w_1$ = 1.0000"]


def test_other_kernels_are_named_and_one_convolution_a_stage_is_drawn():
    how = {**SMALL, "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "convs": 1}
    figure = fig03_architecture(network(1, 2, **how), patch=(8, 16, 16))
    assert "conv 1 × 3 × 3 or 3 × 3 × 3 + IN + leaky ReLU" in labels(figure)
    assert "2" in said(figure)


def test_three_convolutions_a_stage_are_refused():
    with pytest.raises(DataError, match="3 a stage"):
        fig03_architecture(network(**SMALL, convs=3))
