"""Vectors of heads, their place in the plane, their neighbours, and the voxels they depend on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.network import PlainConvEncoder
from strokelib.ssl_nnunet.representations import (
    attributions,
    neighbours,
    project,
    region_of,
    represent,
    representative_points,
    scale,
)


def a_head(shape=(10, 12, 9), channels=1, seed=0):
    images = torch.randn(channels, *shape, generator=torch.Generator().manual_seed(seed))
    return SimpleNamespace(images=images, fill=torch.full((channels,), -3.0))


def an_encoder(channels=1, seed=0):
    torch.manual_seed(seed)
    return PlainConvEncoder(channels, (4, 6, 10), ((1, 1, 1), (2, 2, 2), (1, 2, 2)))


class Stages(nn.Sequential):
    """An encoder without normalisation: its last stage is what its layers make."""

    def forward(self, x):
        return [x, super().forward(x)]


def a_smooth_encoder():
    torch.manual_seed(1)
    return Stages(nn.Conv3d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv3d(3, 4, 3, stride=2, padding=1), nn.Tanh())


def blobs(sizes=(8, 8, 8), features=6, seed=0, apart=20.0):
    rng = np.random.default_rng(seed)
    middles = apart * np.eye(len(sizes), features)
    return np.concatenate([middle + rng.normal(size=(n, features)) for middle, n in zip(middles, sizes, strict=True)])


def test_the_slab_is_the_central_slices_of_the_whole_plane():
    head = a_head()
    assert torch.equal(region_of(head, "slab", 4), head.images[:, 3:7])
    assert torch.equal(region_of(head, "slab", 10), head.images)
    assert torch.equal(region_of(head, "box", 4), head.images)


def test_a_head_with_too_few_slices_is_padded_with_background_on_both_sides():
    head = a_head((5, 6, 6), channels=2)
    head.fill = torch.tensor([-3.0, 7.0])
    found = region_of(head, "slab", 8)
    assert torch.equal(found[:, 1:6], head.images)
    for outside in (found[:, :1], found[:, 6:]):
        assert (outside[0] == -3).all()
        assert (outside[1] == 7).all()


@pytest.mark.parametrize("wrong", [{"region": "brain"}, {"slices": 0}])
def test_another_region_or_no_slice_is_refused(wrong):
    with pytest.raises(ParameterError):
        region_of(a_head(), **wrong)


def test_a_head_without_a_channel_axis_is_refused():
    with pytest.raises(DataError, match="head"):
        region_of(SimpleNamespace(images=torch.zeros(3, 4, 5), fill=torch.zeros(1)))


def test_a_representation_is_the_mean_over_all_positions_of_the_last_stage():
    encoder, heads = an_encoder(), [a_head(), a_head((7, 16, 13), seed=1)]
    found = represent(encoder, heads, slices=6)
    assert found.shape == (2, 10)
    with torch.no_grad():
        for row, head in zip(found, heads, strict=True):
            last = encoder(region_of(head, "slab", 6)[None])[-1][0].numpy()
            np.testing.assert_allclose(row, [one.mean() for one in last], rtol=1e-4, atol=1e-6)
    whole = represent(encoder, heads, region="box")
    assert not np.allclose(found, whole)


def test_an_encoder_keeps_its_mode_and_gets_no_gradient():
    encoder = an_encoder().train()
    represent(encoder, [a_head()], slices=4)
    assert all(part.training for part in encoder.modules())
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_two_channels_are_represented_too():
    assert represent(an_encoder(2), [a_head(channels=2)], slices=4).shape == (1, 10)


def test_no_head_or_a_broken_encoder_is_refused():
    with pytest.raises(DataError, match="heads"):
        represent(an_encoder(), [])
    broken = an_encoder()
    nn.init.constant_(broken.stages[-1][-1].norm.bias, float("nan"))
    with pytest.raises(DataError, match="vectors"):
        represent(broken, [a_head()])


def test_scaling_gives_each_feature_mean_0_and_sd_1_and_leaves_constant_ones_at_0():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 3)) * [1, 1000, 0] + [5, 0, 7]
    found = scale(values)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 0], atol=1e-12)
    np.testing.assert_array_equal(scale(values, "none"), values)
    with pytest.raises(ParameterError, match="scaling"):
        scale(values, "unit")


def test_t_sne_keeps_groups_together_and_is_the_same_for_the_same_seed():
    vectors = blobs()
    placed = project(vectors, seed=3)
    assert placed.shape == (24, 2)
    np.testing.assert_array_equal(placed, project(vectors, seed=3))
    group = np.repeat(np.arange(3), 8)
    nearest = neighbours(placed, 3, scaling="none")
    assert (group[nearest] == group[:, None]).all()


def test_t_sne_of_few_equal_or_broken_vectors_is_refused():
    with pytest.raises(DataError, match="n >= 4"):
        project(np.eye(3))
    with pytest.raises(DataError, match="the same for all heads"):
        project(np.ones((9, 5)))
    with pytest.raises(DataError, match="finite"):
        project(np.full((9, 5), np.nan))


def test_neighbours_are_the_nearest_others_of_a_literal_search():
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    found = neighbours(vectors, 5, scaling="none")
    for head, row in enumerate(found):
        away = [
            (sum((a - b) ** 2 for a, b in zip(vectors[head], one, strict=True)), i) for i, one in enumerate(vectors)
        ]
        assert row.tolist() == [i for _, i in sorted(away) if i != head][:5]


def test_neighbours_by_hand():
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert neighbours(line, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    with pytest.raises(ParameterError, match="1 to 3"):
        neighbours(line, 4)


def test_a_feature_of_large_values_counts_no_more_than_others_once_scaled():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(15, 4))
    np.testing.assert_array_equal(neighbours(vectors), neighbours(vectors * [1000, 1, 1, 0.01]))


def test_representative_points_are_one_medoid_a_group_from_left_to_right():
    groups = [np.array([[0, 0], [1, 0], [0, 1], [0.4, 0.4]]) + shift for shift in ([20, 0], [0, 0], [10, 5])]
    assert representative_points(np.concatenate(groups), 3).tolist() == [7, 11, 3]


def test_too_few_points_for_as_many_groups_are_refused():
    with pytest.raises(ParameterError):
        representative_points(np.zeros((2, 2)), 3)
    with pytest.raises(DataError, match="1 different"):
        representative_points(np.zeros((5, 2)), 2)


def test_attributions_of_a_linear_encoder_are_weight_times_difference():
    pytest.importorskip("captum")
    encoder = Stages(nn.Conv3d(2, 3, 1, bias=False))
    nn.init.zeros_(encoder[0].weight)
    with torch.no_grad():
        encoder[0].weight[:, 0] = 2.0
        encoder[0].weight[0, 1] = -1.0
    image = torch.arange(16.0).reshape(2, 2, 2, 2)
    found = attributions(encoder, image, torch.tensor([1.0, 4.0]), steps=3)
    by_hand = np.stack([6 * (image[0].numpy() - 1) / 8, -(image[1].numpy() - 4) / 8])
    np.testing.assert_allclose(found.values, by_hand, rtol=1e-5, atol=1e-6)
    assert found.difference == pytest.approx(by_hand.sum(), rel=1e-5)
    assert abs(found.completeness_error) < 1e-4


def test_attributions_are_those_of_a_literal_riemann_sum_and_add_up():
    pytest.importorskip("captum")
    encoder, image, background, steps = a_smooth_encoder(), a_head((4, 6, 5)).images, -3.0, 300
    found = attributions(encoder, image, background, steps=50)
    base, total = torch.full_like(image, background), torch.zeros_like(image)
    for step in range(steps):
        point = (base + (step + 0.5) / steps * (image - base)).requires_grad_()
        stage = encoder(point[None])[-1][0]
        total += torch.autograd.grad(sum(channel.mean() for channel in stage), point)[0]
    literal = ((image - base) * total / steps).numpy()
    np.testing.assert_allclose(found.values, literal, rtol=0, atol=2e-3 * np.abs(literal).max())
    assert abs(found.completeness_error) < 1e-3 * abs(found.difference)
    assert found.relative_error < 1e-3


def test_too_few_steps_show_as_an_error_of_completeness():
    pytest.importorskip("captum")
    encoder, image = a_smooth_encoder(), 4 * a_head((4, 6, 5)).images
    errors = [attributions(encoder, image, -3.0, steps=steps).relative_error for steps in (1, 50)]
    assert errors[0] > 10 * errors[1]


def test_attributions_of_a_normalised_encoder_are_finite_and_leave_it_as_it_was():
    pytest.importorskip("captum")
    encoder = an_encoder(2).train()
    found = attributions(encoder, a_head(channels=2).images, torch.tensor([-3.0, 0.0]), steps=8, batch=3)
    assert found.values.shape == (2, 10, 12, 9)
    assert np.isfinite(found.values).all()
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_the_background_gets_no_attribution():
    pytest.importorskip("captum")
    image = a_head((6, 8, 8)).images
    image[:, :, :3] = -3.0
    found = attributions(a_smooth_encoder(), image, -3.0, steps=5).values
    assert not found[:, :, :3].any()
    assert found[:, :, 3:].all()


def test_impossible_requests_for_attributions_are_refused():
    pytest.importorskip("captum")
    encoder, image = a_smooth_encoder(), a_head().images
    with pytest.raises(ParameterError, match="0 steps"):
        attributions(encoder, image, -3.0, steps=0)
    with pytest.raises(DataError, match="image"):
        attributions(encoder, image[None], -3.0)
    with pytest.raises(DataError, match="2 background values"):
        attributions(encoder, image, torch.zeros(2))
