"""The networks of Table II: which there are, their sizes as published, and narrow ones on small slices."""

from __future__ import annotations

import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.nn.baselines.attention_unet import AttentionUNet
from strokelib.nn.baselines.cenet import CENet
from strokelib.papl.networks import NETWORKS, WITH_DEPTH, build_network
from strokelib.papl.rows import RUNS

# With one channel in and two out. Of the Attention U-Net and the CE-Net the docstrings count three in and one out:
# first convolutions of 3 x 3 and 7 x 7 to 64 channels, last ones of 1 x 1 from 64 and 3 x 3 from 32.
PUBLISHED = {
    "U-Net": 31_036_546,
    "Attention U-Net": 34_878_573 - 2 * 64 * 9 + (64 + 1),
    "CENet": 29_002_099 - 2 * 64 * 49 + (32 * 9 + 1),
    "U-Net++": 9_045_282,
    "TransU-Net": 105_306_658,
    "ISP-Net": 41_526_402,
    "X-Net": 15_072_397,
    "CLCI-Net": 36_800_418,
    "SEAN": 34_376_774,
    "SAN-Net": 29_636_058,
    "IS-Net": 10_883_126,
}
OTHER_CHANNELS = ("Attention U-Net", "CENet")
NARROW = {"width": 8, "depth": 4, "shape": (48, 48)}


def count(network):
    return sum(p.numel() for p in network.parameters())


def on_meta(*args, **how):
    with torch.device("meta"):
        return build_network(*args, **how)


def test_they_are_the_networks_of_table_ii_but_for_the_one_that_sees_whole_heads():
    assert {run.backbone for rows in RUNS.values() for run in rows.values()} == {*NETWORKS, "ADN"}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_width_a_network_has_its_published_size(name):
    assert count(on_meta(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in (*OTHER_CHANNELS, "U-Net")])
def test_the_size_stands_in_the_networks_own_docstring(name):
    assert f"{PUBLISHED[name]:,}" in NETWORKS[name].__doc__.replace("\n", " ")


def test_two_docstrings_count_colour_images():
    with torch.device("meta"):
        found = {network: f"{count(network(3, 1)):,}" for network in (AttentionUNet, CENet)}
    assert all(said in network.__doc__ for network, said in found.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_narrow_network_is_small_and_gives_two_logits_a_pixel(name):
    torch.manual_seed(0)
    network = build_network(name, **NARROW)
    assert count(network) < PUBLISHED[name] / 12
    with torch.inference_mode():
        logits = network.eval()(torch.randn(2, 1, 48, 48))
    assert (logits.shape, logits.dtype) == ((2, 2, 48, 48), torch.float32)
    assert logits.std() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_depth_is_that_of_the_networks_that_have_one(name):
    sizes = {count(on_meta(name, 8, depth, (48, 48))) for depth in (3, 4, None)}
    assert len(sizes) == (3 if name in WITH_DEPTH else 1)


def test_the_transformers_positions_are_those_of_the_slices_and_its_width_is_narrowed_too():
    whole, narrow = on_meta("TransU-Net"), on_meta("TransU-Net", 8, 4, (48, 64))
    assert whole.transformer.positions.shape == (1, 768, 16, 16)
    assert narrow.transformer.positions.shape == (1, 96, 3, 4)
    assert (len(whole.transformer.layers), len(narrow.transformer.layers)) == (12, 4)
    assert on_meta("TransU-Net", shape=(512, 256)).transformer.positions.shape == (1, 768, 32, 16)


def test_other_names_and_sizes_that_a_network_refuses_are_told():
    for name in ("ADN", "UNet", ""):
        with pytest.raises(ParameterError, match="U-Net or Attention U-Net or CENet"):
            build_network(name)
    with pytest.raises(ParameterError, match="CE-Net"):
        build_network("CENet", 6)
