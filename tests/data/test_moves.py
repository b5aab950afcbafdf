import numpy as np
import pytest
import torch

from strokelib.data.moves import Move, box_at, cut

SIZE = (9, 11, 13)


def volume(channels=2, shape=(12, 14, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, *shape, generator=generator), torch.randint(0, 3, shape, generator=generator).byte()


def ball(shape=(41, 41, 41), centre=(20, 20, 20), radius=9.0, spacing=(1.0, 1.0, 1.0)):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    square = sum(((i - c) * s) ** 2 for i, c, s in zip(axes, centre, spacing, strict=True))
    return torch.from_numpy(square <= radius**2)


@pytest.mark.parametrize("start", [(0, 0, 0), (-3, 2, 1), (8, 9, 10), (-4, -5, -6), (-30, 0, 0), (0, 40, 0)])
def test_a_box_is_the_volume_padded_by_numpy(start):
    image, _ = volume()
    padded = np.full((2, 72, 74, 76), 7.0, np.float32)
    padded[:, 30:42, 30:44, 30:46] = image.numpy()
    z, y, x = (s + 30 for s in start)
    wanted = np.zeros((2, *SIZE), np.float32) + 7
    part = padded[:, z : z + 9, y : y + 11, x : x + 13]
    wanted[:, : part.shape[1], : part.shape[2], : part.shape[3]] = part
    np.testing.assert_array_equal(box_at(image, start, SIZE, torch.tensor([7.0, 7.0])).numpy(), wanted)


def test_each_channel_is_padded_with_its_own_value():
    image, _ = volume()
    box = box_at(image, (-9, 0, 0), SIZE, torch.tensor([3.0, 5.0]))
    assert box[0].eq(3).all()
    assert box[1].eq(5).all()


def test_without_a_move_the_box_is_an_exact_copy():
    image, lesion = volume()
    seen, truth = cut(image, lesion, (1, 2, 3), SIZE)
    assert torch.equal(seen, image[:, 1:10, 2:13, 3:16])
    assert torch.equal(truth, lesion[1:10, 2:13, 3:16].long())
    seen.zero_()
    assert image[:, 1:10].abs().sum() > 0


def test_a_mirror_is_an_exact_reversal():
    image, lesion = volume()
    seen, truth = cut(image, lesion, (0, 0, 0), lesion.shape, move=Move(mirror=(True, False, True)))
    assert torch.equal(seen, image.flip(1, 3))
    assert torch.equal(truth, lesion.long().flip(0, 2))


def test_a_shift_by_whole_voxels_is_the_box_that_many_voxels_on():
    image, lesion = volume(shape=(20, 20, 20))
    moved = cut(image, lesion, (5, 5, 5), (8, 8, 8), move=Move(shift=(1 / 8, -2 / 8, 3 / 8)))
    still = cut(image, lesion, (6, 3, 8), (8, 8, 8))
    torch.testing.assert_close(moved[0], still[0], atol=1e-5, rtol=0)
    assert torch.equal(moved[1], still[1])


@pytest.mark.parametrize(("axis", "plane"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
def test_a_quarter_turn_is_that_of_numpy(axis, plane):
    image, lesion = volume(shape=(11, 11, 11))
    angles = tuple(90.0 if a == axis else 0.0 for a in range(3))
    seen, truth = cut(image, lesion, (0, 0, 0), (11, 11, 11), move=Move(angles))
    turns = [np.rot90(image.numpy(), k, [p + 1 for p in plane]) for k in (1, 3)]
    errors = [np.abs(seen.numpy() - turned).max() for turned in turns]
    assert min(errors) < 1e-4
    k = (1, 3)[int(np.argmin(errors))]
    np.testing.assert_array_equal(truth.numpy(), np.rot90(lesion.numpy(), k, plane))


def test_a_quarter_turn_on_flat_voxels_turns_millimetres():
    # 11 voxels of 2 mm along y become 22 mm along z, 5 voxels; the one of 5 mm along z becomes 3 of 2 mm along y.
    lesion = torch.zeros(21, 41, 41, dtype=torch.uint8)
    lesion[10, 15:26, 20] = 1
    _, truth = cut(lesion[None].float(), lesion, (0, 0, 0), lesion.shape, spacing=(5, 2, 2), move=Move((0, 0, 90)))
    assert truth.nonzero()[:, 0].unique().tolist() == [8, 9, 10, 11, 12]
    assert truth.nonzero()[:, 1].unique().tolist() == [19, 20, 21]


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("angles", [(0, 0, 0), (30, -20, 10)])
def test_a_zoom_scales_the_volume_of_a_ball_and_a_turn_keeps_it(zoom, angles):
    lesion = ball(radius=8).byte()
    _, truth = cut(lesion[None].float(), lesion, (0, 0, 0), lesion.shape, move=Move(angles, zoom, (0.0, 0.0, 1e-9)))
    assert int(truth.sum()) == pytest.approx(4 / 3 * np.pi * (8 * zoom) ** 3, rel=0.05)
    middle = truth.nonzero().double().mean(dim=0)
    torch.testing.assert_close(middle, torch.full((3,), 20.0).double(), atol=0.1, rtol=0)


def test_image_and_lesion_move_together():
    lesion = ball(centre=(17, 23, 21), radius=6).byte()
    seen, truth = cut(lesion[None].float(), lesion, (2, 3, 4), (30, 32, 34), move=Move((25, 10, -15), 1.2, (0.1, 0, 0)))
    assert torch.equal(truth, (seen[0] >= 0.5).long())
    assert 0 < int(truth.sum()) < truth.numel()


def test_classes_stay_classes_and_keep_their_places():
    lesion = torch.zeros(20, 20, 20, dtype=torch.uint8)
    lesion[:, :, 6:10], lesion[:, :, 10:14] = 1, 3
    _, truth = cut(lesion[None].float(), lesion, (0, 0, 0), lesion.shape, move=Move(shift=(0.0, 0.0, 0.02)))
    assert set(truth.unique().tolist()) == {0, 1, 3}
    assert torch.equal(truth, lesion.long())


def test_a_turned_box_reads_what_lies_around_it_in_the_volume():
    field = torch.arange(40.0).expand(1, 40, 40, 40).clone() + torch.arange(40.0)[:, None]
    seen, _ = cut(
        field, torch.zeros(40, 40, 40), (12, 12, 12), (16, 16, 16), move=Move((45, 0, 0)), fill=torch.zeros(1)
    )
    offset = torch.arange(16.0) - 7.5
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    options = [39 + (2**0.5) * part for part in (x, y, -x, -y)]
    assert min(float((seen[0, 3] - wanted).abs().max()) for wanted in options) < 1e-3


def test_beyond_the_volume_lies_the_fill_also_after_a_turn():
    image, lesion = torch.ones(1, 10, 10, 10), torch.ones(10, 10, 10, dtype=torch.uint8)
    seen, truth = cut(image, lesion, (-10, -10, -10), (30, 30, 30), move=Move((45, 0, 0)), fill=torch.tensor([-2.0]))
    assert seen[0, 0].eq(-2).all()
    assert seen[0, 15, 15, 15] == 1
    assert truth[15, 15, 15] == 1
    assert truth[0].sum() == 0
    assert float(seen.min()) == -2


@pytest.mark.parametrize("angles_deg", [(12.0, 0.0, 0.0), (0.0, -9.0, 0.0), (0.0, 0.0, 15.0), (10.0, -7.0, 5.0)])
def test_a_turn_zoom_and_shift_are_those_of_monai(angles_deg):
    from monai.transforms import RandAffined

    shape, zoom = (24, 30, 28), 1.15
    lesion = ball(shape, (11, 15, 13), 7.0).byte()
    generator = torch.Generator().manual_seed(1)
    image = torch.nn.functional.avg_pool3d(torch.rand(1, 28, 34, 32, generator=generator), 5, 1)
    move = Move(angles_deg, zoom, (0.1, 0.0, -0.05))
    linear = move.linear((1, 1, 1))
    # MONAI composes turns in another order, so it is given our linear map factor by factor: the angles of the same
    # matrix in its order about its axes, found in closed form.
    turn = linear * zoom
    theirs = (np.arctan2(-turn[1, 2], turn[2, 2]), np.arcsin(turn[0, 2]), np.arctan2(-turn[0, 1], turn[0, 0]))
    shift = np.linalg.inv(turn) @ (np.array(move.shift) * shape)
    affine = RandAffined(
        ["image", "lesion"],
        prob=1.0,
        rotate_range=[(a, a) for a in theirs],
        translate_range=[(s, s) for s in shift],
        scale_range=[(1 / zoom - 1, 1 / zoom - 1)] * 3,
        mode="bilinear",
        padding_mode="zeros",
    )
    expected = affine({"image": image, "lesion": lesion[None].float()})
    seen, truth = cut(image, lesion, (0, 0, 0), shape, move=move)
    core = (0, slice(6, -6), slice(7, -7), slice(7, -7))
    torch.testing.assert_close(seen[core], expected["image"].as_tensor()[core], atol=1e-4, rtol=0)
    assert (truth != (expected["lesion"].as_tensor()[0] >= 0.5)).sum() <= 2
    assert float((image[core] - seen[core]).abs().max()) > 0.02
