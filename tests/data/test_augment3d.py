import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from strokelib.data.augment3d import (
    NONE_3D,
    Augmentation3d,
    Chance,
    augment_volumes,
    bend,
    blur,
    change_intensities,
    coarsen,
    draw_move,
)
from strokelib.data.moves import Move

SHAPE = (10, 16, 14)
ALWAYS = Augmentation3d(
    mirror=(0.5, 0.5, 0.5),
    moved=1.0,
    gamma=Chance(1, 0.4),
    contrast=Chance(1, 0.25),
    brightness=Chance(1, 0.1),
    blur_mm=Chance(1, 2.0),
    coarse=Chance(1, 2.0),
    noise=Chance(1, 0.1),
)
ONE_AT_A_TIME = ("gamma", "contrast", "brightness", "blur_mm", "coarse", "noise")


def only(**settings):
    return dataclasses.replace(NONE_3D, **settings)


def rng(number=0):
    return np.random.default_rng((3, number))


def batch(n=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 1, *SHAPE, generator=generator) + 0.5
    images[..., :3] = 0
    lesions = torch.zeros(n, *SHAPE, dtype=torch.uint8)
    lesions[:, 3:7, 5:12, 6:11] = 1
    return images, lesions


def test_no_augmentation_returns_the_input_exactly():
    images, lesions = batch()
    same, truth = augment_volumes(images, lesions, NONE_3D, [rng(i) for i in range(3)])
    assert torch.equal(same, images)
    assert torch.equal(truth, lesions.long())


def test_everything_at_once_keeps_shape_type_and_classes():
    images, lesions = batch()
    changed, truth = augment_volumes(images, lesions, ALWAYS, [rng(i) for i in range(3)], (5, 2, 2))
    assert (changed.shape, changed.dtype) == (images.shape, torch.float32)
    assert (truth.shape, truth.dtype) == (lesions.shape, torch.int64)
    assert set(truth.unique().tolist()) == {0, 1}
    assert changed.isfinite().all()


def test_a_sample_depends_on_its_own_generator_alone():
    images, lesions = batch()
    whole = augment_volumes(images, lesions, ALWAYS, [rng(i) for i in range(3)])
    alone = augment_volumes(images[1:2], lesions[1:2], ALWAYS, [rng(1)])
    assert torch.equal(whole[0][1], alone[0][0])
    assert torch.equal(whole[1][1], alone[1][0])
    assert not torch.equal(whole[0][0], whole[0][1])


def test_no_global_generator_is_touched():
    images, lesions = batch(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    augment_volumes(images, lesions, ALWAYS, [rng()])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_settings_that_are_off_do_not_shift_the_draws_of_the_others():
    full, lone = draw_move(ALWAYS, rng()), draw_move(only(moved=1.0, zoom=ALWAYS.zoom), rng())
    assert lone.zoom == full.zoom != 1
    images, _ = batch(1)
    settings = [only(contrast=ALWAYS.contrast), only(contrast=ALWAYS.contrast, brightness=Chance(1, 0.1))]
    one, two = (change_intensities(images[0], s, rng(), (1, 1, 1), torch.zeros(1)) for s in settings)
    difference = (two - one)[..., 3:]
    torch.testing.assert_close(difference, difference.mean().expand_as(difference))


@pytest.mark.parametrize("moved", [0.0, 0.3, 1.0])
def test_moves_happen_as_often_as_said_and_reach_as_far_as_said(moved):
    settings = only(mirror=(0.0, 0.25, 0.5), moved=moved, rotation_deg=(15, 5, 0), zoom=0.2, shift=0.03)
    moves = [draw_move(settings, rng(i)) for i in range(1500)]
    assert np.mean([m.interpolates for m in moves]) == pytest.approx(moved, abs=0.04)
    assert np.mean([m.mirror for m in moves], axis=0) == pytest.approx([0, 0.25, 0.5], abs=0.04)
    angles = np.abs([m.angles_deg for m in moves]).max(axis=0)
    assert (angles <= [15, 5, 0]).all()
    assert all(0.8 <= m.zoom <= 1.2 and max(map(abs, m.shift)) <= 0.03 for m in moves)
    if moved == 1:
        assert angles == pytest.approx([15, 5, 0], rel=0.02)
        assert (min(m.zoom for m in moves), max(m.zoom for m in moves)) == pytest.approx((0.8, 1.2), abs=0.01)
    assert draw_move(NONE_3D, rng()) == Move()


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_each_change_alone_changes_the_brain_and_leaves_the_background(name):
    images, _ = batch(1)
    settings = only(**{name: getattr(ALWAYS, name)})
    changed = [change_intensities(images[0], settings, rng(i), (5, 2, 2), torch.zeros(1)) for i in range(4)]
    assert all(c[..., :3].eq(0).all() for c in changed)
    assert max(float((c - images[0])[..., 3:].abs().mean()) for c in changed) > 0.02


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_each_change_happens_as_often_as_said(name):
    image, settings = batch(1)[0][0], only(**{name: Chance(0.3, 2.0)})
    changed = [change_intensities(image, settings, rng(i), (2, 2, 2), torch.zeros(1)) for i in range(400)]
    assert np.mean([c is not image for c in changed]) == pytest.approx(0.3, abs=0.07)


def test_the_background_survives_a_turn_exactly():
    images, lesions = batch(1)
    images = torch.where(images == 0, torch.tensor(-1.7), images)
    turned, _ = augment_volumes(images, lesions, only(moved=1.0, rotation_deg=(15, 0, 0)), [rng()])
    assert (turned == images.min()).float().mean() > 0.1
    assert float(turned.min()) == float(images.min())


def test_contrast_scales_the_deviations_from_the_mean_of_the_brain():
    images, _ = batch(1)
    changed = change_intensities(images[0], only(contrast=ALWAYS.contrast), rng(), (1, 1, 1), torch.zeros(1))
    old, new = images[0, ..., 3:], changed[..., 3:]
    assert float(new.mean()) == pytest.approx(float(old.mean()), abs=1e-5)
    ratio = float(new.std() / old.std())
    assert ratio == pytest.approx(1, abs=0.25)
    torch.testing.assert_close(new, (old - old.mean()) * ratio + old.mean(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sd", [(0.0, 0.0, 0.0), (0.5, 1.0, 1.5), (0.0, 2.0, 0.01)])
def test_the_blur_is_that_of_scipy(sd):
    images, _ = batch(1)
    wanted = ndimage.gaussian_filter(
        images[0, 0].double().numpy(),
        sd,
        mode="nearest",
        radius=[int(np.ceil(3 * s)) if s >= 0.15 else 0 for s in sd],
    )
    np.testing.assert_allclose(blur(images[0], sd)[0].numpy(), wanted, atol=1e-5)


def test_the_blur_is_in_millimetres():
    image = torch.zeros(1, 31, 31, 31)
    image[0, 15, 15, 15] = 1
    with_blur = only(blur_mm=Chance(1, 8.0))
    seen = change_intensities(image, with_blur, rng(1), (4, 2, 2), torch.full((1,), -1.0))[0]
    assert float(seen.sum()) == pytest.approx(1, abs=1e-4)
    axis = torch.arange(31.0) - 15
    z, y, x = (float((seen.sum(over) * axis**2).sum()) ** 0.5 for over in ((1, 2), (0, 2), (0, 1)))
    assert y == pytest.approx(x)
    assert 4 * z == pytest.approx(2 * y, rel=0.05)
    assert 2 < 2 * y < 8


def test_coarse_voxels_leave_axes_alone_that_are_coarser_already():
    images = torch.arange(6.0).repeat_interleave(2).expand(1, 4, 12, 12)
    assert torch.equal(coarsen(images, (5, 2, 2), 2.0), images)
    ramp = torch.linspace(0, 1, 8).view(1, 8, 1, 1).expand(1, 8, 12, 12)
    torch.testing.assert_close(coarsen(ramp, (5, 2, 2), 4.0), ramp)
    stripes = (torch.arange(12.0) % 2).expand(1, 8, 12, 12)
    assert float(coarsen(stripes, (5, 2, 2), 4.0).std()) == 0


def test_gamma_keeps_the_ends_and_the_order():
    images = torch.rand(2, 6, 6, 6, generator=torch.Generator().manual_seed(0)) * 3 - 1
    bent = bend(images, 1.5)
    for old, new in zip(images, bent, strict=True):
        assert float(new.min()) == pytest.approx(float(old.min()))
        assert float(new.max()) == pytest.approx(float(old.max()))
        assert torch.equal(old.flatten().argsort(), new.flatten().argsort())
        middle = ((old - old.min()) / (old.max() - old.min())) ** 1.5
        torch.testing.assert_close((new - new.min()) / (new.max() - new.min()), middle)
    flat = torch.full((1, 3, 3, 3), 2.0)
    assert torch.equal(bend(flat, 0.7), flat)


def test_a_volume_of_background_alone_is_left_alone():
    image = torch.full((1, *SHAPE), -2.0)
    assert change_intensities(image, ALWAYS, rng(), (1, 1, 1), torch.tensor([-2.0])) is image
