"""Plans to nnU-Net v2's ``nnUNetPlans.json`` and back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from strokelib.errors import ParameterError
from strokelib.repro import write_text
from strokelib.ssl_nnunet.exchange_json import Document
from strokelib.ssl_nnunet.fingerprint import FOREGROUND, Fingerprint, Normalisation, as_foreground, read_foreground
from strokelib.ssl_nnunet.planning import Plan

CONFIGURATION = "3d_fullres"
NETWORK = "PlainConvUNet"
RESAMPLING = "resample_data_or_seg_to_shape"
PARTS: dict[str, Any] = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
IMPORTED = ("conv_op", "norm_op", "dropout_op", "nonlin")
DECIDING = ("conv_op", "conv_bias", "norm_op", "dropout_op", "nonlin")


def _resampling(is_seg: bool, order: int) -> dict[str, Any]:
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


def _configuration(plan: Plan, channels: int, name: str, plans_name: str) -> dict[str, Any]:
    stages = len(plan.features)
    network = {
        "n_stages": stages,
        "features_per_stage": plan.features,
        "kernel_sizes": plan.kernels,
        "strides": plan.strides,
        "n_conv_per_stage": [plan.convs] * stages,
        "n_conv_per_stage_decoder": [plan.convs] * (stages - 1),
    }
    return {
        "data_identifier": f"{plans_name}_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.batch,
        "patch_size": plan.patch,
        "median_image_size_in_voxels": plan.median_shape,
        "spacing": plan.spacing_mm,
        "normalization_schemes": ["CTNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_data_kwargs": _resampling(False, 3),
        "resampling_fn_seg_kwargs": _resampling(True, 1),
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_probabilities_kwargs": _resampling(False, 1),
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{NETWORK}",
            "arch_kwargs": network | PARTS,
            "_kw_requires_import": IMPORTED,
        },
        "batch_dice": False,
    }


def write_plans(
    plan: Plan,
    found: Fingerprint,
    path: str | os.PathLike,
    dataset: str,
    *,
    configuration: str = CONFIGURATION,
    plans_name: str = "nnUNetPlans",
) -> Path:
    """Write a plan as a plans file of nnU-Net v2 with one configuration, atomically.

    nnU-Net resamples with cubic splines unless images have the plan's voxel size already, as the paper's had.

    Args:
        plan: The plan.
        found: Fingerprint whose intensities nnU-Net shall normalise with; its channels are the network's.
        path: Normally ``nnUNet_preprocessed/<dataset>/nnUNetPlans.json``.
        dataset: ``Dataset500_Name``.
        configuration: Its name in the file.
        plans_name: Name that nnU-Net knows the plans by: the file's without ``.json``.

    Returns:
        The path.
    """
    content = {
        "dataset_name": dataset,
        "plans_name": plans_name,
        "original_median_spacing_after_transp": [float(v) for v in np.median(found.spacings_mm, axis=0)],
        "original_median_shape_after_transp": [round(v) for v in np.median(found.shapes, axis=0).tolist()],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {configuration: _configuration(plan, len(found.channels), configuration, plans_name)},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        FOREGROUND: as_foreground(found.channels),
    }
    return write_text(path, json.dumps(content, indent=4) + "\n")


def read_normalisation(path: str | os.PathLike) -> Normalisation:
    """The normalisation that a plans file's networks expect.

    Raises:
        DataError: The file is missing, or an entry is missing or no number.
    """
    return Normalisation(read_foreground(Document.read(path)))


def read_plans(path: str | os.PathLike, configuration: str = CONFIGURATION) -> Plan:
    """Read a configuration of a plans file, of nnU-Net up to 2.2 (without ``architecture``) as well.

    Args:
        path: The file.
        configuration: Its name; what it inherits from another one is taken from there.

    Raises:
        DataError: The file is missing; an entry is missing, of another kind, or does not fit the others; or it plans
            another network than :class:`strokelib.ssl_nnunet.network.NNUNet`. File, key, found and wanted are named.
    """
    document = Document.read(path)
    if document.numbers("transpose_forward", length=3) != (0, 1, 2):
        step = "plan again with images whose coarsest axis comes first, or suppress_transpose=True"
        raise document.refusal(("transpose_forward",), document.content["transpose_forward"], "[0, 1, 2]", step)
    at = ("configurations", configuration)
    flat = Document(document.name, {at[0]: {at[1]: _inherited(document, configuration, ())}})
    network = _network(flat, at) if flat.has(*at, "architecture") else _old_network(flat, at)
    try:
        return Plan(
            spacing_mm=flat.numbers(*at, "spacing", kind=float, length=3),
            median_shape=flat.numbers(*at, "median_image_size_in_voxels", kind=float, length=3),
            patch=flat.numbers(*at, "patch_size", length=3),
            batch=flat.entry(*at, "batch_size", kind=int),
            **network,
        )
    except ParameterError as error:
        raise flat.refusal((*at, error.thing.removeprefix("plan: ")), error.found, error.wanted) from error


def _inherited(document: Document, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """A configuration with what it inherits."""
    held = dict(document.entry("configurations", name, kind=dict))
    if "inherits_from" not in held:
        return held
    parent = document.entry("configurations", name, "inherits_from", kind=str)
    if parent in (*seen, name):
        keys = ("configurations", name, "inherits_from")
        raise document.refusal(keys, " <- ".join((*seen, name, parent)), "no configuration that inherits from itself")
    return _inherited(document, parent, (*seen, name)) | held


def _network(document: Document, at: tuple[str, ...]) -> dict[str, Any]:
    """Features, strides, kernels and convolutions of a present plans file."""
    _is_plain(document, (*at, "architecture", "network_class_name"))
    at = (*at, "architecture", "arch_kwargs")
    for key in DECIDING:
        if document.entry(*at, key) != PARTS[key]:
            raise document.refusal((*at, key), document.entry(*at, key), f"{PARTS[key]}", "plan it with PlainConvUNet")
    features = document.numbers(*at, "features_per_stage", length=document.entry(*at, "n_stages", kind=int))
    return {
        "features": features,
        "strides": document.rows(*at, "strides"),
        "kernels": document.rows(*at, "kernel_sizes"),
        "convs": _convs(document, at, "n_conv_per_stage", len(features)),
    }


def _old_network(document: Document, at: tuple[str, ...]) -> dict[str, Any]:
    """The same of a plans file of nnU-Net 2.0 to 2.2, which states the first and the largest number of channels."""
    _is_plain(document, (*at, "UNet_class_name"))
    strides = document.rows(*at, "pool_op_kernel_sizes")
    base = document.entry(*at, "UNet_base_num_features", kind=int)
    most = document.entry(*at, "unet_max_num_features", kind=int)
    return {
        "features": tuple(min(base * 2**stage, most) for stage in range(len(strides))),
        "strides": strides,
        "kernels": document.rows(*at, "conv_kernel_sizes"),
        "convs": _convs(document, at, "n_conv_per_stage_encoder", len(strides)),
    }


def _is_plain(document: Document, keys: tuple[str, ...]) -> None:
    name = document.entry(*keys, kind=str)
    if name.rpartition(".")[2] != NETWORK:
        raise document.refusal(keys, name, NETWORK, "plan it with the default planner")


def _convs(document: Document, at: tuple[str, ...], key: str, stages: int) -> int:
    """The one number of convolutions that all stages have, in encoder and decoder."""
    encoder = document.numbers(*at, key, length=stages)
    decoder = document.numbers(*at, "n_conv_per_stage_decoder", length=stages - 1)
    if len({*encoder, *decoder}) != 1:
        found = f"{list(encoder)} in the encoder, {list(decoder)} in the decoder"
        raise document.refusal((*at, key), found, "the same number in all stages", "plan it with the default planner")
    return encoder[0]
