import matplotlib as mpl
import pytest
import torch
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import nn

from strokelib.errors import DataError
from strokelib.figures import diagrams, traces
from strokelib.figures.u_shape import levels_of, u_shape
from strokelib.nn.excitation import SqueezeExcitation
from strokelib.nn.unet import UNet

mpl.use("Agg")


def _small():
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(), nn.AvgPool2d(2))


def _texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def _unet(**options):
    with torch.device("meta"):
        return UNet(1, 2, **{"width": 4, "depth": 3, **options})


def _drawn_u(network, side=32):
    figure, ax = diagrams.canvas(4.0)
    entry = (1, network.in_channels, side, side)
    return figure, u_shape(ax, traces.trace(network, torch.empty(entry)), entry, top=3.8, bottom=0.2)


def test_a_trace_names_each_layer_with_its_shape_its_parameters_and_its_kernel():
    found = traces.trace(_small(), torch.zeros(2, 1, 9, 12))
    assert [(s.name, s.kind, s.shape, s.parameters) for s in found] == [
        ("0", "Conv2d", (2, 4, 5, 6), 40),
        ("1", "BatchNorm2d", (2, 4, 5, 6), 8),
        ("2", "LeakyReLU", (2, 4, 5, 6), 0),
        ("3", "AvgPool2d", (2, 4, 2, 3), 0),
    ]
    assert [s.detail for s in found] == ["3 x 3, stride 2", "", "", "2 x 2, stride 2"]


def test_a_trace_leaves_weights_running_means_mode_and_hooks_as_they_were():
    network = _small().train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    traces.trace(network, torch.rand(2, 1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [part.training for part in network] == [True, False, True, True]
    assert not any(part._forward_hooks for part in network.modules())


def test_a_trace_that_fails_takes_its_hooks_away_and_restores_the_mode():
    network = _small().train()
    with pytest.raises(RuntimeError):
        traces.trace(network, torch.zeros(2, 3, 8, 8))
    assert network.training
    assert not any(part._forward_hooks for part in network.modules())


def test_a_trace_counts_a_shared_layer_once_and_a_frozen_one_too():
    shared = nn.Conv2d(2, 2, 3, padding=1)
    found = traces.trace(nn.Sequential(shared, nn.ReLU(), shared).requires_grad_(False), torch.zeros(1, 2, 4, 4))
    assert [s.parameters for s in found] == [38, 0, 0]


def test_a_class_taken_whole_is_one_stage_with_all_that_is_inside():
    block = SqueezeExcitation(4)
    network = nn.Sequential(nn.Conv2d(1, 4, 1), block)
    (_, found) = traces.trace(network, torch.zeros(1, 1, 4, 4), whole=(SqueezeExcitation,))
    assert (found.kind, found.shape) == ("SqueezeExcitation", (1, 4, 4, 4))
    assert found.parameters == sum(p.numel() for p in block.parameters())
    assert len(traces.trace(network, torch.zeros(1, 1, 4, 4))) > 2


def test_the_stages_of_a_network_hold_all_of_its_parameters():
    network = _unet()
    assert sum(s.parameters for s in traces.trace(network, torch.zeros(1, 1, 16, 16))) == sum(
        p.numel() for p in network.parameters()
    )


def test_normalisation_and_activation_join_the_layer_before_them():
    found = traces.merged(traces.trace(_small(), torch.zeros(1, 1, 8, 8)))
    assert [s.kind for s in found] == ["Conv2d + BatchNorm2d + LeakyReLU", "AvgPool2d"]
    assert found[0].parameters == 48
    assert diagrams.worded(found[0]) == "conv 3 × 3, stride 2 + BN + leaky ReLU"
    assert diagrams.worded(found[1]) == "AvgPool2d 2 × 2, stride 2"


@pytest.mark.parametrize(
    ("count", "said"), [(130, "130"), (9999, "9999"), (18496, "18.5 k"), (33_835_822, "33.84 M"), (100_000, "0.10 M")]
)
def test_a_count_of_parameters_is_short(count, said):
    assert traces.counted(count) == said


def test_a_chain_shows_every_shape_and_the_parameters_of_every_layer_that_has_some():
    figure, ax = diagrams.canvas(2.3)
    stages = traces.trace(_small(), torch.zeros(1, 1, 8, 8))
    diagrams.chain_of_boxes(ax, stages, (1, 1, 8, 8), middle=1.2, tall=1.3)
    texts = _texts(figure)
    assert [t for t in texts if "×" in t and "\n" not in t] == ["8 × 8", "4 × 4", "2 × 2"]
    assert [t for t in texts if t.isdigit()] == ["1", "48", "4", "4"]
    assert len([p for p in ax.patches if isinstance(p, Polygon)]) == 3 * 3
    assert len([p for p in ax.patches if isinstance(p, FancyArrowPatch)]) == 2


def test_a_code_at_the_end_of_a_chain_is_a_column_of_one_cell_a_channel():
    _, ax = diagrams.canvas(2.3)
    network = nn.Sequential(nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1))
    stages = traces.trace(network, torch.zeros(1, 1, 8, 8))
    diagrams.chain_of_boxes(ax, stages, (1, 1, 8, 8), middle=1.2, tall=1.3)
    assert len([p for p in ax.patches if isinstance(p, Rectangle)]) == 5


def test_the_levels_of_a_u_net_follow_its_trace():
    stages = traces.merged(traces.trace(_unet(), torch.zeros(1, 1, 16, 16)))
    levels = levels_of(stages, (1, 1, 16, 16), dict.fromkeys(["Conv2d", "ConvTranspose2d", "head"], "red"))
    assert [(level.size, level.side) for level in levels] == [("16 × 16", 16), ("8 × 8", 8), ("4 × 4", 4)]
    assert [[bar.channels for bar in level.down] for level in levels] == [[1, 4, 4], [4, 8, 8], [8, 16, 16]]
    assert [[bar.channels for bar in level.up] for level in levels] == [[8, 4, 4, 2], [16, 8, 8], []]
    assert [level.up[0].skipped for level in levels[:2]] == [4, 8]


def test_another_width_or_depth_makes_another_u():
    plain, wide, deep = (_texts(_drawn_u(_unet(**o))[0]) for o in ({}, {"width": 8}, {"depth": 4}))
    assert plain.count("16") == 3
    assert "32" in wide
    assert "4 × 4" in deep
    assert "4 × 4" not in plain


def test_the_key_of_a_u_names_its_normalisation_and_its_arrows():
    labels = [handle.get_label() for handle in _drawn_u(_unet())[1]]
    assert labels == [
        "input, pooled or skipped",
        "conv 3 × 3 + BN + ReLU",
        "up-conv 2 × 2, stride 2",
        "conv 1 × 1",
        "max pool 2 × 2, stride 2",
        "skip connection",
    ]
    other = _unet(norm=lambda channels: nn.GroupNorm(1, channels))
    assert "conv 3 × 3 + GroupNorm + ReLU" in [handle.get_label() for handle in _drawn_u(other)[1]]


def test_every_bar_and_label_of_a_u_lies_inside_the_picture():
    for network in (_unet(), _unet(width=64, depth=5)):
        figure, _ = _drawn_u(network, 256)
        (ax,) = figure.axes
        bars = [p for p in ax.patches if isinstance(p, Rectangle)]
        assert min(p.get_x() for p in bars) > 0.5
        assert max(p.get_x() + p.get_width() for p in bars) < diagrams.WIDTH_IN
        assert min(p.get_y() for p in bars) > 0
        renderer = figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in ax.texts]
        assert all(a.x0 >= 0 and a.x1 <= figure.bbox.x1 for a in boxes)
        assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_a_network_that_is_no_u_net_is_refused():
    _, ax = diagrams.canvas(4.0)
    with pytest.raises(DataError, match="U-Net"):
        u_shape(ax, traces.trace(_small(), torch.zeros(1, 1, 8, 8)), (1, 1, 8, 8), top=3.0, bottom=0.2)
