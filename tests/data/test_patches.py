import numpy as np
import pytest
import torch

from strokelib.data.augment3d import NONE_3D, Augmentation3d, Chance
from strokelib.data.cases import Case, Volume
from strokelib.data.loading import Batch
from strokelib.data.patches import PatchSampler
from strokelib.data.volumes import volumes_of
from strokelib.errors import DataError, ParameterError

SHAPES = ((8, 24, 20), (12, 18, 26), (5, 30, 16))
SIZE = (4, 12, 10)
STRONG = Augmentation3d(moved=0.7, blur_mm=Chance(0.5, 3.0), noise=Chance(0.5, 0.1), gamma=Chance(0.5, 0.4))


def case(number=0, lesion=True):
    rng = np.random.default_rng(number)
    shape = SHAPES[number % 3]
    image = rng.uniform(1, 79, shape).astype(np.float32)
    mask = np.zeros(shape, bool)
    if lesion:
        mask[0, :2, :3] = True
        mask[-1, 12, -1] = True
    return Case(f"made-{number}", f"p{number}", "made", "train", Volume(image, np.diag([2.0, 2, 5, 1])), mask)


def volumes(n=6, healthy=(1, 4)):
    return volumes_of([case(i, i not in healthy) for i in range(n)])


def sampler(size=SIZE, batch=2, seed=5, share=0.5, augmentation=STRONG, data=None):
    return PatchSampler(data or volumes(), size, batch, seed, share, augmentation)


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.lesions, b.lesions)


def test_a_batch_has_the_shapes_and_types_that_a_network_takes():
    made = next(sampler())
    assert isinstance(made, Batch)
    assert (made.images.shape, made.images.dtype) == ((2, 1, *SIZE), torch.float32)
    assert (made.lesions.shape, made.lesions.dtype) == ((2, *SIZE), torch.int64)
    assert set(made.lesions.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("share", [0.0, 0.3, 1 / 3, 0.5, 0.7, 1.0])
def test_any_stretch_of_the_stream_holds_the_share_of_lesion_patches_to_within_one(share):
    one = sampler(share=share)
    centred = np.array([one.centred_on_lesion(i) for i in range(3000)])
    sums = np.concatenate([[0], np.cumsum(centred)])
    for length in (1, 2, 7, 10, 100, 3000):
        counts = sums[length:] - sums[:-length]
        assert np.abs(counts - share * length).max() <= 1 + 1e-6
    assert centred.mean() == pytest.approx(share, abs=4e-4)


def test_a_patch_kept_inside_starts_in_the_volume_still_holds_its_lesion_voxel_and_is_centred_where_it_is_longer():
    data, size = volumes(3, healthy=()), (6, 12, 18)
    one = PatchSampler(data, size, 1, 0, 1.0, NONE_3D, inside=True)
    seen = set()
    for number in range(200):
        scan, start = one.place(number, np.random.default_rng(number))
        shape = SHAPES[scan]
        for s, n, side in zip(start, shape, size, strict=True):
            assert 0 <= s <= n - side if n >= side else s == (n - side) // 2
            seen.add(n >= side)
    assert seen == {True, False}
    assert all(next(one).lesions.any() for _ in range(20))


def test_a_lesion_patch_has_a_lesion_voxel_in_its_middle_also_at_the_edge_of_the_volume():
    made = next(sampler(batch=60, share=1.0, augmentation=NONE_3D))
    assert made.lesions[:, 2, 6, 5].eq(1).all()


def test_lesion_patches_come_from_the_scans_with_lesion_and_the_others_from_all():
    one, data = sampler(), volumes()
    rng = np.random.default_rng(0)
    scans = {True: [], False: []}
    for i in range(3000):
        scan, start = one.place(i, rng)
        scans[one.centred_on_lesion(i)].append(scan)
        if not one.centred_on_lesion(i):
            assert all(0 <= s <= n - side for s, n, side in zip(start, data.shapes[scan], SIZE, strict=True))
    assert np.bincount(scans[True], minlength=6) / 1500 == pytest.approx([0.25, 0, 0.25, 0.25, 0, 0.25], abs=0.04)
    assert np.bincount(scans[False], minlength=6) / 1500 == pytest.approx([1 / 6] * 6, abs=0.04)


def test_lesion_voxels_of_a_scan_are_drawn_alike_and_patches_anywhere_are_spread_evenly():
    rng, data = np.random.default_rng(0), volumes(1, healthy=())
    at_lesion, anywhere = sampler(share=1.0, data=data), sampler(share=0.0, data=data)
    starts = [at_lesion.place(i, rng)[1] for i in range(3500)]
    _, counts = np.unique(starts, axis=0, return_counts=True)
    assert counts / 3500 == pytest.approx([1 / 7] * 7, abs=0.03)
    starts = np.array([anywhere.place(i, rng)[1] for i in range(3000)])
    for axis, free in enumerate((5, 13, 11)):
        assert np.bincount(starts[:, axis], minlength=free) / 3000 == pytest.approx([1 / free] * free, abs=0.05)


def test_a_patch_longer_than_the_volume_is_centred_on_it_and_padded_with_the_background():
    data = volumes(3, healthy=(0, 1, 2))
    one = sampler((16, 40, 12), 6, share=0.0, augmentation=NONE_3D, data=data)
    made, rng = next(one), [np.random.default_rng((5, i)) for i in range(6)]
    for i in range(6):
        which, start = one.place(i, rng[i])
        scan = data[which]
        assert start[0] == -((16 - SHAPES[which][0] + 1) // 2)
        depth, height, _ = SHAPES[which]
        inside = made.images[i, :, -start[0] : depth - start[0], -start[1] : height - start[1]]
        assert torch.equal(inside, scan.images[..., start[2] : start[2] + 12])
        assert made.images[i, 0, : -start[0]].eq(scan.fill[0]).all()
        assert made.images[i].eq(scan.fill[0]).sum() >= 16 * 40 * 12 - depth * height * 12


def test_a_sample_does_not_depend_on_the_batch_it_is_in():
    large, small = next(sampler(batch=6)), sampler(batch=2)
    parts = [next(small) for _ in range(3)]
    assert torch.equal(large.images, torch.cat([p.images for p in parts]))
    assert torch.equal(large.lesions, torch.cat([p.lesions for p in parts]))


def test_a_restored_position_continues_the_same_stream():
    whole = sampler()
    made = [next(whole) for _ in range(4)]
    again = sampler()
    next(again)
    state = again.state_dict()
    resumed = sampler()
    resumed.load_state_dict(state)
    assert all(same(next(resumed), batch) for batch in made[1:])
    with pytest.raises(ParameterError, match="seed 5"):
        sampler(seed=6).load_state_dict(state)


def test_the_stream_is_another_with_another_seed_and_does_not_depend_on_what_is_kept_in_memory():
    kept, read = volumes(), volumes_of([case(i, i not in (1, 4)) for i in range(6)], cache_mib=0.0)
    assert read.kept_mib == 0
    assert same(next(sampler(data=kept)), next(sampler(data=read)))
    assert not same(next(sampler(seed=0)), next(sampler(seed=1)))


def test_a_batch_that_fails_is_not_skipped():
    class OnceGone(list):
        gone = False

        def __getitem__(self, index):
            if self.gone:
                raise DataError("case", found="no file", wanted="a file", next_step="mount the disk")
            return super().__getitem__(index)

    cases = OnceGone(case(i) for i in range(3))
    one = sampler(data=volumes_of(cases, cache_mib=0.0))
    state = one.state_dict()
    cases.gone = True
    with pytest.raises(DataError, match="no file"):
        next(one)
    assert one.state_dict() == state
    cases.gone = False
    assert same(next(one), next(sampler(data=volumes_of(cases))))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"size": (4, 4)}, "three sides"),
        ({"size": (4, 0, 4)}, "three sides"),
        ({"share": 1.2}, "share from 0 to 1"),
        ({"batch": 0}, "batch of 1"),
        ({"seed": -1}, "seed of 0"),
    ],
)
def test_impossible_settings_are_refused(settings, error):
    with pytest.raises(ParameterError, match=error):
        sampler(**settings)


def test_a_share_that_the_data_cannot_give_is_refused():
    healthy = volumes(2, healthy=(0, 1))
    with pytest.raises(DataError, match="0 of 2 with lesion"):
        sampler(data=healthy)
    assert next(sampler(data=healthy, share=0.0)).lesions.sum() == 0
