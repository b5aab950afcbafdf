"""Named channels end where they belong, in slices and in batches of parts of them."""

import dataclasses
import os
import sys

import numpy as np
import pytest
import torch

from strokelib.data.cases import Case, Volume, channel
from strokelib.data.loading import Slices
from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi.losses import lesion_weight_map
from strokelib.pseudo_dwi.recipe import TrainingRecipe
from strokelib.pseudo_dwi.slices import PatchSampler, named_slices, sampler, whole_slices

sys.path.insert(0, os.path.dirname(__file__))
from made_cases import SMALL

SHAPE = (4, 12, 10)
CODES = {"maps": (10, 20, 30, 40), "mip": (50,), "frames": (60, 70, 80, 90, 100, 110), "dwi": (120,)}
EVERYTHING = ("maps", "mip", "frames", "dwi")


def recipe(**changes):
    return TrainingRecipe.at("smoke", **{**SMALL, "lesion_share": None, **changes})


def coded(number=0, shape=SHAPE):
    """A case whose channels say case, channel and place; brain off the middle, none in slice 2."""
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    place = (1000 * number + z + y / 100 + x / 10_000).astype(np.float32)
    channels = {name: np.stack([place + code for code in codes]) for name, codes in CODES.items()}
    brain = (abs(y - 6) < 5) & (x > 3) & (z != 2)
    lesion = (abs(y - 5) < 2) & (abs(x - 4) < 3) & (z % 2 == 1)
    image = Volume(np.zeros(shape, np.float32), np.eye(4))
    return Case(f"coded-{number}", f"p{number}", "made", "train", image, lesion, brain, channels=channels)


def code_of(case, name):
    return torch.from_numpy(np.moveaxis(case.channels[name], 0, 1)[[0, 1, 3]])


@pytest.mark.parametrize("names", [EVERYTHING, ("dwi", "frames", "maps"), ("mip",)])
def test_each_name_finds_its_own_channels_in_the_order_asked_for_and_the_weight_map_comes_last(names):
    cases = [coded(0), coded(1)]
    found = named_slices(cases, names, recipe())
    widths = [len(CODES[name]) for name in names]
    assert list(found.places) == [*names, "weight"]
    assert found.slices.images.shape == (6, sum(widths) + 1, *SHAPE[1:])
    assert found.slices.images.dtype == torch.float32
    assert found.places["weight"] == slice(sum(widths), sum(widths) + 1)
    taken = found.take(found.slices.images, names)
    assert list(taken) == list(names)
    for name in names:
        torch.testing.assert_close(taken[name], torch.cat([code_of(case, name) for case in cases]), rtol=0, atol=0)


def test_slices_without_brain_are_left_out_and_the_others_keep_case_and_level():
    found = named_slices([coded(0), coded(1)], ["mip"], recipe()).slices
    assert found.case.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.z.tolist() == [0, 1, 3, 0, 1, 3]
    whole = dataclasses.replace(coded(), brain=None)
    assert named_slices([whole], ["mip"], recipe()).slices.z.tolist() == [0, 1, 2, 3]


def test_only_lesion_in_the_brain_counts_in_reference_and_weight_map():
    case = coded()
    inside = case.lesion & case.brain
    assert 0 < inside.sum() < case.lesion.sum()
    found = named_slices([case], ["mip"], recipe(w=3.0, decay_px=2.0))
    np.testing.assert_array_equal(found.slices.lesions.numpy(), inside[[0, 1, 3]])
    expected = lesion_weight_map(inside, 3.0, 2.0)[[0, 1, 3]]
    np.testing.assert_array_equal(found.take(found.slices.images, ["weight"])["weight"][:, 0].numpy(), expected)
    assert (expected[0] == 0.5).all()
    assert expected[1].max() == 3


def test_the_window_about_the_brain_cuts_all_channels_the_weight_map_and_the_reference_alike():
    case = coded()
    whole, cut = (named_slices([case], EVERYTHING, recipe(crop=crop)).slices for crop in (None, (9, 6)))
    rows, columns = slice(2, 11), slice(4, 10)  # the brain, rows 2 to 10 and columns 4 to 9
    torch.testing.assert_close(cut.images, whole.images[:, :, rows, columns], rtol=0, atol=0)
    assert cut.lesions.equal(whole.lesions[:, rows, columns])


def test_a_missing_channel_is_named_with_what_there_is_and_what_to_do():
    case = coded()
    del case.channels["mip"]
    with pytest.raises(DataError, match=r"coded-0(.|\n)*dwi(.|\n)*mip(.|\n)*network_inputs"):
        named_slices([case], EVERYTHING, recipe())


def test_a_missing_dwi_says_that_the_public_archive_has_none():
    case = coded()
    del case.channels["dwi"]
    with pytest.raises(DataError, match=r"coded-0(.|\n)*the public archive of ISLES 2018 has none"):
        named_slices([coded(1), case], ["maps", "dwi"], recipe())
    with pytest.raises(DataError, match="ISLES 2018"):
        channel(case, "dwi")
    assert len(named_slices([case], ["maps"], recipe()).slices) == 3


def test_no_case_no_reference_and_another_size_are_refused_in_words():
    with pytest.raises(DataError, match="none"):
        named_slices([], ["maps"], recipe())
    with pytest.raises(DataError, match=r"coded-1(.|\n)*no reference"):
        named_slices([coded(0), dataclasses.replace(coded(1), lesion=None)], ["maps"], recipe())
    with pytest.raises(DataError, match=r"coded-1(.|\n)*\(12, 11\)(.|\n)*\(12, 10\)"):
        named_slices([coded(0), coded(1, (4, 12, 11))], ["maps"], recipe())


def test_cases_may_have_different_numbers_of_slices():
    found = named_slices([coded(0), coded(1, (7, 12, 10))], ["maps"], recipe()).slices
    assert found.z.tolist() == [0, 1, 3, 0, 1, 3, 4, 5, 6]


def test_whole_slices_are_all_slices_of_a_case_brain_or_not():
    case = coded()
    found = whole_slices(case, ["frames", "mip"])
    assert list(found) == ["frames", "mip"]
    assert found["frames"].shape == (4, 6, 12, 10)
    assert found["frames"].is_contiguous()
    np.testing.assert_array_equal(found["frames"][2, 4].numpy(), case.channels["frames"][4, 2])


# Batches


def mapped(count=5, size=(20, 16), every=2):
    """Slices of which each pixel of the three channels says slice, row and column; every second one holds lesion."""
    n, y, x = np.mgrid[:count, : size[0], : size[1]].astype(np.float32)
    lesions = ((abs(y - 6 - n) < 3) & (abs(x - 4) < 2) & (n % every == 0)).astype(np.uint8)
    numbers = torch.arange(count)
    return Slices(torch.from_numpy(np.stack([n, y, x], axis=1)), torch.from_numpy(lesions), numbers, numbers)


def test_all_channels_and_the_reference_of_a_part_come_from_one_place_mirrored_or_not():
    slices = mapped()
    batch = next(PatchSampler(slices, 60, 0, size=(7, 6), mirror=0.5))
    assert batch.images.shape == (60, 3, 7, 6)
    assert batch.images.dtype == torch.float32
    assert batch.lesions.dtype == torch.int64
    n, y, x = batch.images.long().unbind(1)
    assert batch.lesions.equal(slices.lesions[n, y, x].long())
    assert (y.diff(dim=1) == 1).all()
    along = x.diff(dim=2)
    mirrored = (along == -1).flatten(1).all(dim=1)
    assert ((along == 1).flatten(1).all(dim=1) | mirrored).all()
    assert 15 < mirrored.sum() < 45


@pytest.mark.parametrize(("mirror", "steps"), [(0.0, {1}), (1.0, {-1})])
def test_whole_slices_are_drawn_where_no_size_is_asked_for(mirror, steps):
    batch = next(PatchSampler(mapped(), 8, 1, mirror=mirror))
    assert batch.images.shape == (8, 3, 20, 16)
    assert set(batch.images[:, 2].diff(dim=2).flatten().tolist()) == steps
    assert set(batch.images[:, 1].diff(dim=1).flatten().tolist()) == {1}


def corners(lesion=True, size=41):
    """A slice with lesion in one corner pixel, hit by chance once in a thousand draws, and one with none."""
    lesions = torch.zeros(2, size, size, dtype=torch.uint8)
    lesions[0, 0, 0] = int(lesion)
    numbers = torch.arange(2)
    return Slices(numbers.float()[:, None, None, None].expand(2, 1, size, size).contiguous(), lesions, numbers, numbers)


def drawn(slices, share, count=1000, size=(8, 8)):
    batch = next(PatchSampler(slices, count, 5, share, size))
    return batch.images[:, 0, 0, 0] == 0, (batch.lesions > 0).flatten(1).any(dim=1)


def test_slices_with_lesion_and_parts_of_them_that_show_it_are_as_frequent_as_asked_for():
    for share in (0.3, 0.8):
        ill, shown = drawn(corners(), share)
        assert float(ill.float().mean()) == pytest.approx(share, abs=0.06)
        assert float(shown[ill].float().mean()) == pytest.approx(share, abs=0.06)
        assert not shown[~ill].any()
    ill, shown = drawn(corners(), 1.0)
    assert ill.all()
    assert shown.all()


def test_without_a_share_slices_come_as_they_are_and_parts_of_those_with_lesion_always_show_it():
    ill, shown = drawn(corners(), None)
    assert float(ill.float().mean()) == pytest.approx(0.5, abs=0.06)
    assert shown.equal(ill)


def test_parts_of_a_slice_without_lesion_lie_anywhere_in_it():
    y, x = next(PatchSampler(mapped(every=99)[1:], 400, 2, size=(17, 14))).images[:, 1:, 0, 0].unbind(1)
    assert set(zip(y.tolist(), x.tolist(), strict=True)) == {(a, b) for a in range(4) for b in range(3)}


def test_the_lesion_lies_at_any_place_of_a_part():
    slices = mapped(1, (30, 30))
    slices.lesions.zero_()
    slices.lesions[0, 14, 15] = 1
    number, y, x = next(PatchSampler(slices, 400, 3, size=(4, 5))).lesions.nonzero().unbind(1)
    assert number.equal(torch.arange(400))
    assert set(zip(y.tolist(), x.tolist(), strict=True)) == {(a, b) for a in range(4) for b in range(5)}


@pytest.mark.parametrize("size", [(21, 4), (4, 17)])
def test_parts_larger_than_the_slices_are_refused(size):
    with pytest.raises(ParameterError, match=r"patch(.|\n)*\(20, 16\)"):
        PatchSampler(mapped(), 2, 0, size=size)


def test_parts_as_large_as_the_slices_are_the_slices():
    assert next(PatchSampler(mapped(), 2, 0, size=(20, 16))).images.shape == (2, 3, 20, 16)


def same(one, other):
    return all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_one_seed_gives_one_stream_another_seed_another():
    streams = [PatchSampler(mapped(), 6, seed, 0.5, (7, 6), 0.5) for seed in (3, 3, 4)]
    first, again, other = ([next(stream) for _ in range(3)] for stream in streams)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], first[1])
    assert not same(first[0], other[0])


def test_a_restored_position_goes_on_with_the_same_batches():
    stream = PatchSampler(mapped(), 6, 3, 0.5, (7, 6), 0.5)
    next(stream)
    state = stream.state_dict()
    rest = [next(stream) for _ in range(2)]
    restored = PatchSampler(mapped(), 6, 3, 0.5, (7, 6), 0.5)
    restored.load_state_dict(state)
    assert all(same(a, next(restored)) for a in rest)
    with pytest.raises(ParameterError, match="seed"):
        PatchSampler(mapped(), 6, 4).load_state_dict(state)


def test_the_stream_of_a_recipe_has_its_batch_its_parts_and_its_share():
    found = named_slices([coded()], ["mip", "dwi"], recipe())
    stream = sampler(found, recipe(batch=4, patch=(5, 6), mirror=0.25, lesion_share=0.75), seed=7)
    assert (stream.batch, stream.size, stream.mirror, stream.lesion_share, stream.seed) == (4, (5, 6), 0.25, 0.75, 7)
    assert next(stream).images.shape == (4, 3, 5, 6)


def test_a_share_is_not_asked_of_slices_that_all_hold_lesion():
    case = dataclasses.replace(coded(), lesion=coded().brain)
    assert sampler(named_slices([case], ["mip"], recipe()), recipe(lesion_share=0.9), 0).lesion_share is None


def test_a_share_that_slices_without_lesion_cannot_give_is_refused():
    healthy = dataclasses.replace(coded(), lesion=np.zeros(SHAPE, bool))
    found = named_slices([healthy], ["mip"], recipe())
    with pytest.raises(DataError, match="0 of 3 with lesion"):
        sampler(found, recipe(lesion_share=0.9), 0)
    assert next(sampler(found, recipe(), 0)).lesions.sum() == 0
