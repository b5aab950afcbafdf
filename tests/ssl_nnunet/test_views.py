"""Pairs of views: where they come from, what they share, how often they are symmetric, and that the stream resumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from strokelib.data.augment3d import NONE_3D, Augmentation3d
from strokelib.data.prefetch import Prefetch
from strokelib.data.volumes import Volumes
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.heads import Head
from strokelib.ssl_nnunet.views import VIEW_AUGMENTATION, Box, ViewSampler, overlap, view_of

SHAPES = ((14, 30, 26), (20, 24, 34))
SIZE, SLAB = (8, 16, 12), 12
FILL = torch.tensor([-1.0, -2.0, -3.0])


def head(shape, brain=None, contralateral=True):
    """A head whose three channels hold z, y and x; the contralateral one has x from the other end, and 1000 more."""
    z, y, x = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    mirrored = torch.stack([z, y, shape[2] - 1 - x]) + 1000
    brain = torch.ones(shape, dtype=torch.bool) if brain is None else brain
    return Head(
        images=torch.stack([z, y, x]),
        lesions=torch.zeros(shape, dtype=torch.uint8),
        spacing=(5.0, 4.0, 4.0),
        fill=FILL,
        brain=brain,
        contralateral=mirrored if contralateral else None,
        affine=np.eye(4),
        id="made",
        cohort="made",
    )


def heads(shapes=SHAPES, **how):
    return Volumes(shapes, lambda shape: head(shape, **how), cache_mib=100)


def sampler(data=None, size=SIZE, batch=4, seed=3, slab=SLAB, augmentation=NONE_3D, symmetry=0.7, **how):
    how |= {"slab": slab, "augmentation": augmentation, "symmetry": symmetry}
    return ViewSampler(heads() if data is None else data, size, batch, seed, **how)


def pairs_of(stream, count):
    return [stream.place(np.random.default_rng((stream.seed, i)))[1] for i in range(count)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_batch_is_two_views_and_a_flag():
    made = next(sampler(augmentation=VIEW_AUGMENTATION))
    for view in (made.first, made.second):
        assert (view.shape, view.dtype) == ((4, 3, *SIZE), torch.float32)
        assert view.isfinite().all()
    assert (made.symmetric.shape, made.symmetric.dtype) == ((4,), torch.bool)


def test_the_same_seed_gives_the_same_bytes_however_the_stream_is_cut():
    large, small = (
        next(sampler(batch=6, augmentation=VIEW_AUGMENTATION)),
        sampler(batch=2, augmentation=VIEW_AUGMENTATION),
    )
    parts = [next(small) for _ in range(3)]
    assert same(large, [torch.cat(part) for part in zip(*parts, strict=True)])
    assert same(large, next(sampler(batch=6, augmentation=VIEW_AUGMENTATION)))
    assert not same(large, next(sampler(batch=6, seed=4, augmentation=VIEW_AUGMENTATION)))


def test_a_restored_position_continues_the_same_stream_also_ahead_of_its_use():
    whole = sampler(augmentation=VIEW_AUGMENTATION)
    made = [next(whole) for _ in range(5)]
    begun = sampler(augmentation=VIEW_AUGMENTATION)
    with Prefetch(begun) as ahead:
        assert same(next(ahead), made[0])
        assert same(next(ahead), made[1])
        state = ahead.state_dict()
    resumed = sampler(augmentation=VIEW_AUGMENTATION)
    resumed.load_state_dict(state)
    assert all(same(next(resumed), batch) for batch in made[2:])


def places(box, size):
    """(z, y, x) that a box shows at each voxel of a view: centres of equal parts of it, not beyond its voxels."""
    axes = []
    for start, side, n in zip(box.start, box.sides, size, strict=True):
        axes.append(start + ((np.arange(n) + 0.5) * side / n - 0.5).clip(0, side - 1))
    return np.stack(np.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize("other_place", ["same", "own"])
def test_every_voxel_shows_the_place_that_the_pair_names_and_the_mirrored_one_on_the_other_side(other_place):
    stream = sampler(batch=40, other_place=other_place)
    made, kinds = next(stream), set()
    for number, pair in enumerate(pairs_of(stream, 40)):
        width = SHAPES[pair.scan][2]
        symmetric = any(pair.contralateral)
        kinds.add(pair.contralateral)
        assert bool(made.symmetric[number]) == symmetric
        if symmetric and other_place == "same":
            assert pair.views[0] == pair.views[1]
        for view, box, other in zip((made.first, made.second), pair.views, pair.contralateral, strict=True):
            wanted = places(box, SIZE)
            if other:
                wanted = np.stack([wanted[0], wanted[1], width - 1 - wanted[2]]) + 1000
            np.testing.assert_allclose(view[number].numpy(), wanted, atol=1e-3)
    assert kinds == {(False, False), (False, True), (True, False)}
    if other_place == "own":
        assert any(p.views[0] != p.views[1] for p in pairs_of(stream, 40) if any(p.contralateral))


def test_pairs_are_symmetric_as_often_as_asked_for_and_either_view_may_be_the_other_side():
    made = pairs_of(sampler(), 3000)
    assert np.mean([any(p.contralateral) for p in made]) == pytest.approx(0.7, abs=0.03)
    assert np.mean([p.contralateral[0] for p in made]) == pytest.approx(0.35, abs=0.03)
    assert not any(all(p.contralateral) for p in made)
    assert np.mean([p.scan for p in made]) == pytest.approx(0.5, abs=0.03)
    plain = sampler(heads(contralateral=False), symmetry=0.0)
    assert not next(plain).symmetric.any()


def test_views_lie_in_the_base_the_base_in_the_slab_and_the_slab_in_the_box():
    made = pairs_of(sampler(heads(((30, 60, 50),))), 300)
    for pair in made:
        for inner, outer in ((pair.views[0], pair.base), (pair.views[1], pair.base), (pair.base, pair.slab)):
            assert overlap(inner, outer) == inner.sides
        assert overlap(pair.slab, Box((0, 0, 0), (30, 60, 50))) == (SLAB, 60, 50)
        assert pair.base.sides[0] == SLAB
        assert [box.sides[0] for box in pair.views] == [8, 8]
        for axis in (1, 2):
            side = SIZE[axis]
            assert 1.4 * side - 0.5 <= pair.base.sides[axis] <= 1.8 * side + 0.5
            assert all(0.8 * side - 0.5 <= box.sides[axis] <= 1.2 * side + 0.5 for box in pair.views)
    assert {pair.slab.start[0] for pair in made} == set(range(30 - SLAB + 1))
    assert {box.start[0] - p.slab.start[0] for p in made for box in p.views} == set(range(SLAB - 8 + 1))


def test_the_shared_part_of_two_boxes_by_hand():
    one = Box((2, 3, 4), (8, 10, 12))
    assert overlap(one, one) == (8, 10, 12)
    assert overlap(one, Box((5, 0, 10), (10, 5, 20))) == (5, 2, 6)
    assert overlap(Box((5, 0, 10), (10, 5, 20)), one) == (5, 2, 6)
    assert overlap(one, Box((10, 3, 4), (8, 10, 12))) == (0, 10, 12)


def test_published_views_share_half_their_slices_at_least_and_with_a_base_crop_some_of_the_plane():
    brain = torch.ones(169, 169, 138, dtype=torch.bool)
    one = head((2, 2, 2), brain=brain)
    data = Volumes([0], lambda number: one, cache_mib=100)
    shares = {}
    for base in ("crop", "slab"):
        stream = ViewSampler(data, (16, 112, 112), 1, 0, slab=24, base=base)
        shared = np.array([overlap(*pair.views) for pair in pairs_of(stream, 400)])
        assert shared[:, 0].min() == 8
        assert shared[:, 0].max() == 16
        assert (shared > 0).all()
        shares[base] = (shared[:, 1] * shared[:, 2]).mean() / 112**2
    assert shares["crop"] > shares["slab"] > 0.4
    assert shares["crop"] > 0.5


def test_in_a_large_box_a_base_crop_keeps_views_together_that_a_slab_alone_would_part():
    data = heads(((14, 80, 70),))
    parted = {}
    for base in ("crop", "slab"):
        shared = np.array([overlap(*pair.views) for pair in pairs_of(sampler(data, base=base, symmetry=0.0), 500)])
        parted[base] = (shared == 0).any(axis=1).mean()
    assert parted["crop"] < 0.02
    assert parted["slab"] > 0.5


def slab_starts(redraws):
    brain = torch.zeros(40, 20, 16, dtype=torch.bool)
    brain[20:] = True
    one = head((40, 20, 16), brain=brain)
    stream = sampler(Volumes([0], lambda number: one, cache_mib=100), slab=10, redraws=redraws, symmetry=0.0)
    return np.array([pair.slab.start[0] for pair in pairs_of(stream, 2500)])


@pytest.mark.parametrize("redraws", [0, 1, 10])
def test_slabs_with_little_brain_are_drawn_again_by_their_share_of_background(redraws):
    shares = np.array([max(0, min(10, start - 10)) / 10 for start in range(31)])
    again = np.where(shares < 0.4, 1 - shares, 0.0)
    once, taken = again.mean(), np.zeros(31)
    for number in range(redraws + 1):
        kept = 1 - again if number < redraws else np.ones(31)
        taken += once**number * kept / 31
    assert taken.sum() == pytest.approx(1)
    found = slab_starts(redraws)
    assert (shares[found] < 0.4).mean() == pytest.approx(taken[shares < 0.4].sum(), abs=0.03)
    assert shares[found].mean() == pytest.approx((taken * shares).sum(), abs=0.03)


def test_heads_that_are_too_small_are_padded_with_the_background_on_both_sides():
    stream = sampler(heads(((5, 11, 9),)), batch=12, symmetry=0.0)
    made = next(stream)
    for number, pair in enumerate(pairs_of(stream, 12)):
        assert pair.slab == Box((-4, -3, -2), (12, 16, 12))
        assert pair.base.sides == (12, 16, 12)
        for view, box in zip((made.first, made.second), pair.views, strict=True):
            levels = range(box.start[0], box.start[0] + 8)
            outside = torch.tensor([not 0 <= level < 5 for level in levels])
            assert outside.any()
            seen = view[number]
            assert seen[:, outside].eq(FILL.view(3, 1, 1, 1)).all()
            assert seen[0, ~outside].amax(dim=(1, 2)).tolist() == pytest.approx([v for v in levels if 0 <= v < 5])


def test_a_box_at_its_own_size_is_copied_and_any_other_interpolated_in_plane():
    images = torch.randn(2, 6, 14, 13, generator=torch.Generator().manual_seed(0))
    fill = torch.tensor([-3.0, 0.5])
    own = view_of(images, Box((1, 2, 3), (4, 6, 7)), (4, 6, 7), fill)
    assert torch.equal(own, images[:, 1:5, 2:8, 3:10])
    box, size = Box((1, -2, 5), (4, 9, 12)), (4, 7, 10)
    seen = view_of(images, box, size, fill)
    for c, z, y, x in [(0, 0, 3, 2), (1, 3, 6, 5), (0, 2, 1, 9), (1, 1, 0, 0)]:
        _, v, u = places(box, size)[:, z, y, x]
        total = 0.0
        for row in (int(v // 1), int(v // 1) + 1):
            for column in (int(u // 1), int(u // 1) + 1):
                inside = 0 <= row < 14 and 0 <= column < 13
                value = float(images[c, z + 1, row, column]) if inside else float(fill[c])
                total += max(0, 1 - abs(v - row)) * max(0, 1 - abs(u - column)) * value
        assert float(seen[c, z, y, x]) == pytest.approx(total, abs=1e-4)
    assert seen[:, :, 0].eq(fill.view(2, 1, 1)).all()


def test_each_view_is_mirrored_by_itself_as_often_as_asked_for():
    plain = next(sampler(batch=1, symmetry=0.0))
    always, often = (replace(NONE_3D, mirror=mirror) for mirror in ((1.0, 0.0, 1.0), (0.0, 0.0, 0.8)))
    flipped = next(sampler(batch=1, symmetry=0.0, augmentation=always))
    assert torch.equal(flipped.first, plain.first.flip([2, 4]))
    assert torch.equal(flipped.second, plain.second.flip([2, 4]))
    made = next(sampler(batch=300, symmetry=0.0, augmentation=often))
    turned = [view[:, 2, 0, 0, 0] > view[:, 2, 0, 0, -1] for view in (made.first, made.second)]
    assert float(torch.cat(turned).float().mean()) == pytest.approx(0.8, abs=0.06)
    assert float((turned[0] != turned[1]).float().mean()) == pytest.approx(0.32, abs=0.09)


def test_the_background_keeps_its_value_through_the_augmentation_and_the_brain_does_not():
    stream = sampler(heads(((5, 11, 9),)), batch=8, augmentation=VIEW_AUGMENTATION)
    plain = sampler(heads(((5, 11, 9),)), batch=8)
    made, before = next(stream), next(plain)
    for view, old in ((made.first, before.first), (made.second, before.second)):
        kept, was = view.eq(FILL.view(3, 1, 1, 1)), old.eq(FILL.view(3, 1, 1, 1))
        assert kept.flatten(1).sum(dim=1).equal(was.flatten(1).sum(dim=1))
        assert 0 < kept.sum() < kept.numel()
        assert not torch.equal(view[~kept].sort().values, old[~was].sort().values)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"size": (8, 16)}, "three sides"),
        ({"size": (8, 0, 16)}, "three sides"),
        ({"slab": 7}, "8 slices"),
        ({"base": "whole"}, "crop or slab"),
        ({"other_place": "near"}, "same or own"),
        ({"base_crop": (0.9, 1.2)}, "from 1"),
        ({"base_crop": (1.8, 1.4)}, "from 1"),
        ({"scale": (1.2, 0.8)}, "rising range"),
        ({"scale": (0.01, 0.8)}, "leaves a voxel"),
        ({"symmetry": 1.1}, "probability"),
        ({"brain_share": -0.1}, "share from 0 to 1"),
        ({"redraws": -1}, "0 or more"),
        ({"augmentation": Augmentation3d()}, "moved 0.3"),
        ({"batch": 0}, "batch of 1"),
    ],
)
def test_impossible_settings_are_refused(settings, error):
    with pytest.raises(ParameterError, match=error):
        sampler(**settings)


def test_symmetric_pairs_need_contralateral_images():
    with pytest.raises(DataError, match="no contralateral image"):
        sampler(heads(contralateral=False))
