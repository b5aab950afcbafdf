"""The mid-sagittal line network: its stream of poses, its errors, its training on few heads."""

import numpy as np
import torch

from strokelib import methods
from strokelib.data.phantom import cohorts
from strokelib.methods import midline
from strokelib.methods.midline import MidlineRecipe, PosedSlices, line_errors, posed


def test_points_and_pixels_move_alike():
    image = torch.zeros(1, 1, 64, 48)
    image[0, 0, 20, 30] = 1.0
    ends = torch.tensor([[[30.0, 20.0], [30.0, 20.0]]])
    recipe = MidlineRecipe.at("smoke", noise=0.0, batch=12)
    batch = next(PosedSlices(image, ends, recipe, 3))
    for picture, (point, _) in zip(batch.images[:, 0], batch.lesions, strict=True):
        total = picture.sum()
        if total < 0.5:
            continue
        x = (picture.sum(0) * torch.arange(48)).sum() / total
        y = (picture.sum(1) * torch.arange(64)).sum() / total
        torch.testing.assert_close(torch.stack((x, y)), point, atol=0.35, rtol=0)


def test_no_pose_changes_nothing():
    image = torch.rand(2, 1, 20, 16)
    torch.testing.assert_close(posed(image, torch.zeros(2), torch.zeros(2, 2)), image, atol=1e-5, rtol=0)


def test_the_stream_depends_on_its_position_alone():
    images, ends = torch.rand(5, 1, 16, 16), torch.rand(5, 2, 2) * 16
    recipe = MidlineRecipe.at("smoke")
    first, second = PosedSlices(images, ends, recipe, 1), PosedSlices(images, ends, recipe, 1)
    next(first)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(next(first).images, next(second).images)


def test_errors_of_a_line_are_in_degrees_and_voxels():
    truth = torch.tensor([[[10.0, 0.0], [10.0, 40.0]]])
    found = torch.tensor([[[13.0, 0.0], [13.0, 40.0]], [[10.0, 0.0], [50.0, 40.0]]])
    angle, distance = line_errors(found, truth.expand(2, 2, 2))
    np.testing.assert_allclose(angle, [0.0, 45.0], atol=1e-4)
    np.testing.assert_allclose(distance, [3.0, 20.0], atol=1e-4)


def test_a_short_training_is_kept_and_gives_a_line_for_every_slice_with_brain(tmp_path):
    recipe = MidlineRecipe.at("smoke", train_cases=2, val_cases=1)
    train, val = cohorts.load_parts("aisd", "smoke", root=tmp_path, train=2, val=1)
    trained = methods.train_method(methods.MIDLINE, recipe, train, val, seed=0, out=tmp_path)
    again = methods.train_method(methods.MIDLINE, recipe, train, val, seed=0, out=tmp_path)
    assert trained.folder == again.folder
    ends = midline.find_line(trained.model, recipe, val[0])
    area = val[0].brain.sum(axis=(1, 2)) * val[0].image.voxel_ml
    np.testing.assert_array_equal(np.isfinite(ends).all(axis=(1, 2)), area > recipe.smallest_brain_ml)
