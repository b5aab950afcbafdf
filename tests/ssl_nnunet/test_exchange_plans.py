"""Plans to nnU-Net's plans file and back; what is wrong in one is named with file and key."""

import dataclasses
import json

import pytest

from strokelib.errors import DataError
from strokelib.ssl_nnunet.exchange_plans import read_normalisation, read_plans, write_plans
from strokelib.ssl_nnunet.fingerprint import Fingerprint, Intensities
from strokelib.ssl_nnunet.planning import plan, published_plan

INTENSITIES = (Intensities(30.0, 31.0, 5.0, 0.0, 60.0, 5.0, 55.0), Intensities(0.0, 0.0, 3.0, -9.0, 9.0, -8.0, 8.0))
FOUND = Fingerprint(((139, 169, 138), (140, 170, 138)), ((1.0, 1.0, 1.0),) * 2, INTENSITIES, 0.5)
AT = ("configurations", "3d_fullres")
NETWORK = (*AT, "architecture", "arch_kwargs")


@pytest.fixture
def path(tmp_path):
    return write_plans(published_plan(), FOUND, tmp_path / "nnUNetPlans.json", "Dataset501_Stroke")


def _change(path, keys, value):
    """Set an entry of a file, or delete it (value ...)."""
    held = json.loads(path.read_text())
    place = held
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(held))


@pytest.mark.parametrize("made", [published_plan(), plan(FOUND, base=8, target_spacing=(5, 2, 2), batch=3)])
def test_a_plan_comes_back_exactly(tmp_path, made):
    assert read_plans(write_plans(made, FOUND, tmp_path / "p.json", "Dataset001_X")) == made


def test_the_file_has_the_documented_keys(path):
    held = json.loads(path.read_text())
    assert set(held) == {
        "dataset_name",
        "plans_name",
        "original_median_spacing_after_transp",
        "original_median_shape_after_transp",
        "image_reader_writer",
        "transpose_forward",
        "transpose_backward",
        "configurations",
        "experiment_planner_used",
        "label_manager",
        "foreground_intensity_properties_per_channel",
    }
    assert set(held["configurations"]["3d_fullres"]) == {
        "data_identifier",
        "preprocessor_name",
        "batch_size",
        "patch_size",
        "median_image_size_in_voxels",
        "spacing",
        "normalization_schemes",
        "use_mask_for_norm",
        "resampling_fn_data",
        "resampling_fn_seg",
        "resampling_fn_data_kwargs",
        "resampling_fn_seg_kwargs",
        "resampling_fn_probabilities",
        "resampling_fn_probabilities_kwargs",
        "batch_dice",
        "architecture",
    }
    assert set(held["configurations"]["3d_fullres"]["architecture"]) == {
        "network_class_name",
        "arch_kwargs",
        "_kw_requires_import",
    }


def test_the_network_is_described_as_nnu_net_describes_it(path):
    held = json.loads(path.read_text())["configurations"]["3d_fullres"]
    assert held["normalization_schemes"] == ["CTNormalization"] * 2
    assert held["architecture"]["network_class_name"].endswith(".PlainConvUNet")
    assert held["architecture"]["_kw_requires_import"] == ["conv_op", "norm_op", "dropout_op", "nonlin"]
    assert held["architecture"]["arch_kwargs"] == {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]],
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def test_the_normalisation_of_a_plans_file_comes_back(path):
    assert read_normalisation(path).channels == INTENSITIES
    _change(path, ("foreground_intensity_properties_per_channel", "1", "percentile_99_5"), ...)
    with pytest.raises(DataError, match="percentile_99_5"):
        read_normalisation(path)


def test_a_configuration_can_inherit_from_another(path):
    _change(path, ("configurations", "large_batch"), {"inherits_from": "3d_fullres", "batch_size": 5})
    assert read_plans(path, "large_batch") == dataclasses.replace(published_plan(), batch=5)


def test_a_circle_of_inheritance_is_refused(path):
    _change(path, ("configurations", "a"), {"inherits_from": "b"})
    _change(path, ("configurations", "b"), {"inherits_from": "a"})
    with pytest.raises(DataError, match="a <- b <- a"):
        read_plans(path, "a")


def test_a_file_of_the_papers_nnu_net_version_is_read(path):
    held = json.loads(path.read_text())
    configuration = held["configurations"]["3d_fullres"]
    network = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 32,
        "n_conv_per_stage_encoder": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "num_pool_per_axis": [4, 5, 5],
        "pool_op_kernel_sizes": network["strides"],
        "conv_kernel_sizes": network["kernel_sizes"],
        "unet_max_num_features": 320,
    }
    path.write_text(json.dumps(held))
    assert read_plans(path) == published_plan()
    _change(path, (*AT, "UNet_class_name"), "ResidualEncoderUNet")
    with pytest.raises(DataError, match="PlainConvUNet"):
        read_plans(path)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ((*AT, "patch_size"), ..., "the key patch_size"),
        ((*AT, "patch_size"), [96, 160], "3 numbers"),
        ((*AT, "patch_size"), [96, 160, 160.5], "whole number"),
        ((*AT, "patch_size"), [96, 160, 161], "multiples of"),
        ((*AT, "spacing"), [1.0, 1.0, 0.0], "positive"),
        ((*AT, "spacing"), "1 mm", "a list"),
        ((*AT, "batch_size"), True, "a whole number"),
        ((*AT, "batch_size"), 0, "1 or more"),
        (AT, ..., "the key 3d_fullres"),
        ((*NETWORK, "strides"), [[1, 1, 1]] * 5, "each of 6 stages"),
        ((*NETWORK, "strides"), [[1, 1]] * 6, r"strides\.0"),
        ((*NETWORK, "kernel_sizes"), [[2, 2, 2]] * 6, "odd"),
        ((*NETWORK, "n_stages"), 5, "5 numbers"),
        ((*NETWORK, "conv_op"), "torch.nn.modules.conv.Conv2d", "Conv3d"),
        ((*NETWORK, "norm_op"), "torch.nn.BatchNorm3d", "InstanceNorm3d"),
        ((*NETWORK, "conv_bias"), False, "conv_bias"),
        ((*NETWORK, "n_conv_per_stage_decoder"), [1] * 5, "same number"),
        ((*AT, "architecture", "network_class_name"), "a.ResidualEncoderUNet", "PlainConvUNet"),
        (("transpose_forward",), [1, 0, 2], "transpose_forward"),
    ],
)
def test_an_entry_that_is_wrong_is_named_with_its_file_and_key(path, keys, value, said):
    _change(path, keys, value)
    with pytest.raises(DataError, match=said) as raised:
        read_plans(path)
    assert raised.value.thing.startswith("nnUNetPlans.json")
    place = f"nnUNetPlans.json: {'.'.join(keys[:-1])}" if value is ... else ".".join(keys[:1])
    assert place in raised.value.thing


def test_another_configuration_is_asked_for_by_name(path):
    with pytest.raises(DataError, match="the key 3d_lowres"):
        read_plans(path, "3d_lowres")
