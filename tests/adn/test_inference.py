"""What a network makes of whole heads: at once, alone or by parts, and the Dice over all of them."""

import dataclasses
import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from strokelib.adn.batches import Volumes
from strokelib.adn.inference import lesion_probability, outputs, pooled_dice
from strokelib.adn.model import ADN, Disentangled, compensate_intrinsic, intrinsic_asymmetry, total_asymmetry
from strokelib.adn.segmentation import BothSides
from strokelib.nn.baselines.resunet3d import ResUNet3D

sys.path.insert(0, os.path.dirname(__file__))
import made_heads
from made_heads import Marked


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)
    torch.manual_seed(0)


NETWORKS = {
    "ResUNet": lambda: ResUNet3D(1, 1, 4, 2),
    "both sides": lambda: BothSides(ResUNet3D(2, 1, 4, 2)),
    "ADN": lambda: ADN(4, 2),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_volume_alone_comes_out_as_in_a_batch_of_two(kind):
    model = NETWORKS[kind]()
    volumes = torch.rand(3, 1, 6, 9, 8)
    (pair,) = outputs(model, volumes[:2])
    (single,) = outputs(model, volumes[:1])
    for one, two in zip(*(found if kind == "ADN" else [found] for found in (single, pair)), strict=True):
        assert one.shape == (1, 1, 6, 9, 8)
        torch.testing.assert_close(one, two[:1], atol=1e-5, rtol=1e-5)
    assert isinstance(single, Disentangled) == (kind == "ADN")
    assert model.training
    split = lesion_probability(model, volumes)
    torch.testing.assert_close(split[:2], (pair.logits if kind == "ADN" else pair).sigmoid(), atol=1e-5, rtol=1e-5)


def test_volumes_go_in_some_at_a_time_and_never_one_alone():
    model = Marked()
    sizes = [len(found) for found in outputs(model, torch.rand(5, 1, 2, 3, 4), batch=2)]
    assert sizes == [2, 2, 1]
    assert [shape[0] for shape in model.seen] == [2, 2, 2]


def test_the_probability_is_the_sigmoid_of_the_logits_in_float32():
    volumes = torch.rand(5, 1, 2, 3, 4)
    found = lesion_probability(Marked(), volumes)
    assert (found.dtype, found.shape) == (torch.float32, (5, 1, 2, 3, 4))
    torch.testing.assert_close(found, (40 * (volumes - 0.6)).sigmoid())
    assert not found.requires_grad


def test_pooled_dice_counts_the_voxels_of_all_heads_together():
    images, lesions = torch.zeros(3, 1, 1, 4, 4), torch.zeros(3, 1, 1, 4, 4)
    images[0, 0, 0, :2] = 1  # 8 found, 4 of them right, in a head with 6
    lesions[0, 0, 0, 1] = 1
    lesions[0, 0, 0, 2, :2] = 1
    images[1, 0, 0, 0, 0] = 1  # 1 found where there is none
    heads = Volumes(images, lesions, None, (5.0, 4.0, 4.0))
    assert pooled_dice(Marked(), heads) == pytest.approx(2 * 4 / (9 + 6))
    assert pooled_dice(Marked(), dataclasses.replace(heads, images=lesions)) == 1
    assert pooled_dice(Marked(), dataclasses.replace(heads, images=0 * images, lesions=0 * lesions)) == 0


# By parts


def test_parts_of_a_voxel_by_voxel_network_are_the_whole():
    volumes = torch.rand(2, 1, 7, 13, 6)
    whole = torch.cat(list(outputs(Marked(), volumes)))
    for parts in ((3, 5), (7, 13), (4, 99), (1, 1)):
        model = Marked()
        found = list(outputs(model, volumes, segment=parts))
        assert len(found) == 2
        torch.testing.assert_close(torch.cat(found), whole, atol=1e-4, rtol=1e-5)
        sizes = {shape[2:] for shape in model.seen}
        assert sizes == {(min(parts[0], 7), min(parts[1], 13), 6)}
    torch.testing.assert_close(lesion_probability(Marked(), volumes, (3, 5)), whole.sigmoid(), atol=1e-5, rtol=1e-5)


def test_neighbouring_parts_overlap_by_a_quarter_and_no_slice_or_row_is_left_out():
    class Where(nn.Module):
        """Answers with what it sees and keeps the first voxel of each part."""

        def __init__(self):
            super().__init__()
            self.first = set()

        def forward(self, x):
            self.first |= set(x[:, 0, 0, 0, 0].tolist())
            return x

    z, y = torch.meshgrid(torch.arange(12), torch.arange(20), indexing="ij")
    volume = (100 * z + y)[None, None, :, :, None].expand(1, 1, 12, 20, 4).float()
    model = Where()
    (found,) = outputs(model, volume, segment=(8, 8))
    torch.testing.assert_close(found, volume, rtol=1e-4, atol=1e-2)
    assert sorted(model.first) == [0, 6, 12, 400, 406, 412]


def test_a_part_as_large_as_the_head_gives_what_the_whole_gives():
    model, volumes = ADN(4, 2), torch.rand(2, 1, 6, 9, 8)
    whole = next(iter(outputs(model, volumes)))
    for number, found in enumerate(outputs(model, volumes, segment=(6, 9))):
        for name, value in found._asdict().items():
            torch.testing.assert_close(value, getattr(whole, name)[number : number + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["relu", "printed"])
def test_by_parts_a_q_and_the_compensated_scan_follow_from_the_averaged_p(form):
    model, volumes = ADN(4, 2, intrinsic=form), torch.rand(1, 1, 6, 12, 8)
    with torch.no_grad():
        model.extractor.head.bias.fill_(-2.0)
    (found,) = outputs(model, volumes, segment=(4, 6))
    assert isinstance(found, Disentangled)
    assert all(value.shape == volumes.shape for value in found)
    assert 0 < found.pathological.min() < found.pathological.max() < 1
    torch.testing.assert_close(found.total, total_asymmetry(volumes))
    torch.testing.assert_close(found.intrinsic, intrinsic_asymmetry(found.total, found.pathological, form))
    torch.testing.assert_close(found.compensated, compensate_intrinsic(volumes, found.intrinsic))
    assert model.training


def test_pooled_dice_by_parts_is_that_of_the_parts():
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.random((2, 1, 6, 8, 4), np.float32))
    heads = Volumes(images, (images > 0.5).float(), None, (5.0, 4.0, 4.0))
    whole, parts = pooled_dice(Marked(), heads), pooled_dice(Marked(), heads, (3, 4))
    found = (images > 0.6).sum()
    assert whole == parts == pytest.approx(float(2 * found / (found + (images > 0.5).sum())))
