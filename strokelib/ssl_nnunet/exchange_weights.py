"""Weights to nnU-Net v2's checkpoints and back.

nnU-Net registers some modules more than once, so its files hold the same tensor under several names: each convolution
and norm also within ``all_modules``, and the whole encoder also within the decoder. The names, for stage i,
convolution j, and decoder stage k (0 the coarsest):

    encoder.stages.<i>.0.convs.<j>.conv|norm.weight|bias    and  ...convs.<j>.all_modules.0|1.weight|bias
    decoder.encoder.stages...                                    the encoder once more
    decoder.stages.<k>.convs.<j>.conv|norm|all_modules.0|1.weight|bias
    decoder.transpconvs.<k>.weight|bias                          the transposed convolutions
    decoder.seg_layers.<k>.weight|bias                           the 1 x 1 x 1 heads
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strokelib.errors import CheckpointError, DataError, ParameterError
from strokelib.repro import atomic_path, sha256
from strokelib.ssl_nnunet.network import NNUNet
from strokelib.train.foreign import load_foreign

VERSION = 1
WEIGHTS = "network_weights"
ENCODER, DECODER = "encoder.", "decoder."
DUPLICATE = {"conv": "all_modules.0", "norm": "all_modules.1"}
DECODER_PARTS = {"ups": "transpconvs", "heads": "seg_layers"}
CONVERSION = (
    'only if you trust who made it, write its weights alone where it was made: python -c "import torch; '
    "held = torch.load('checkpoint_final.pth', map_location='cpu', weights_only=False)['network_weights']; "
    "torch.save({'network_weights': dict(held)}, 'weights.pth')\""
)
_BLOCK = re.compile(r"(encoder\.)?stages\.(\d+)\.(\d+)\.(conv|norm)\.(weight|bias)")
_PLAIN = re.compile(r"(ups|heads)\.(\d+)\.(weight|bias)")
State = Mapping[str, Tensor]


def foreign_names(name: str) -> tuple[str, ...]:
    """nnU-Net's names of one weight of :class:`strokelib.ssl_nnunet.network.NNUNet`, the plain one first.

    Args:
        name: As in the network's ``state_dict``, such as ``encoder.stages.1.0.conv.weight``.

    Raises:
        ParameterError: The network has no weight of such a name.
    """
    if (block := _BLOCK.fullmatch(name)) is not None:
        side, stage, conv, part, kind = block.groups()
        within = f"stages.{stage}.0.convs.{conv}" if side else f"stages.{stage}.convs.{conv}"
        homes = (ENCODER, DECODER + ENCODER) if side else (DECODER,)
        return tuple(f"{home}{within}.{called}.{kind}" for home in homes for called in (part, DUPLICATE[part]))
    if (plain := _PLAIN.fullmatch(name)) is not None:
        part, stage, kind = plain.groups()
        return (f"{DECODER}{DECODER_PARTS[part]}.{stage}.{kind}",)
    step = "give the state_dict of an NNUNet, or of its encoder"
    raise ParameterError("weight", found=name, wanted="a weight of NNUNet", next_step=step)


def to_two_classes(name: str, weight: Tensor) -> Tensor:
    """A weight as a network with background and lesion as softmax channels has it.

    A head of one sigmoid channel z becomes the two channels 0 and z, which give the same probability: softmax of (0, z)
    is the sigmoid of z. All else stays.

    Args:
        name: Our name.
        weight: Our weight.
    """
    one = name.startswith("heads.") and weight.shape[0] == 1
    return torch.cat([torch.zeros_like(weight), weight]) if one else weight


def from_two_classes(name: str, weight: Tensor, out_channels: int) -> Tensor:
    """A weight of a network of two softmax channels for one of ``out_channels``.

    For one channel a head's second row less its first is kept: the sigmoid of the difference is the lesion's softmax.
    """
    two_to_one = name.startswith("heads.") and out_channels == 1 and weight.shape[0] == 2
    return weight[1:] - weight[:1] if two_to_one else weight


def export_encoder(encoder: State, path: str | os.PathLike) -> Path:
    """Write a pre-trained encoder alone, with nnU-Net's names, atomically.

    As the public code of Seia et al. does, for loaders that leave the decoder alone, such as :func:`import_encoder`.
    nnU-Net's own ``-pretrained_weights`` asks for the decoder as well: for it load the encoder into an
    :class:`strokelib.ssl_nnunet.network.NNUNet` of the plan and use :func:`export_network`; it takes over all but the
    heads.

    Args:
        encoder: The encoder's ``state_dict``, e.g. ``DeepSelfDistillation.teacher_encoder()``.
        path: Such as ``encoder.pth``.

    Returns:
        The path.

    Raises:
        ParameterError: A name that the encoder does not have.
        DataError: A value that is not finite.
    """
    names = {f"{ENCODER}{name}": weight for name, weight in encoder.items()}
    return _write({"network_weights": _foreign(names, homes=(ENCODER,))}, path)


def export_network(
    network: NNUNet, path: str | os.PathLike, *, configuration: str = "3d_fullres", fold: int | str = 0
) -> Path:
    """Write a network as nnU-Net's ``checkpoint_final.pth``, atomically.

    nnU-Net predicts with it from ``<folder>/fold_<fold>/checkpoint_final.pth``, with ``plans.json``
    (:func:`strokelib.ssl_nnunet.exchange_plans.write_plans`) and ``dataset.json`` in ``<folder>``, and starts a
    training from it by ``-pretrained_weights``. It cannot resume a training of ours: the optimiser is not in it.

    A network of one sigmoid channel is written with two softmax channels that give the same probability.

    Args:
        network: With one or two output channels.
        path: Of the file.
        configuration: Its name in the plans.
        fold: Of the cross-validation.

    Returns:
        The path.

    Raises:
        ParameterError: More than two output channels.
        DataError: A weight that is not finite.
    """
    if network.out_channels > 2:
        raise ParameterError(
            "network",
            found=f"{network.out_channels} output channels",
            wanted="1 or 2",
            next_step="give another network",
        )
    state = {name: to_two_classes(name, weight) for name, weight in network.state_dict().items()}
    facts: dict[str, Any] = {
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": 0,
        "init_args": {"configuration": configuration, "fold": fold},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    return _write({WEIGHTS: _foreign(state)} | facts, path)


def import_encoder(path: str | os.PathLike, network: NNUNet | None = None) -> dict[str, Tensor]:
    """The encoder in a checkpoint of nnU-Net, or in a file of :func:`export_encoder`.

    Args:
        path: Read with ``weights_only``: nothing in the file is run.
        network: Whose encoder it shall fit; None takes any.

    Returns:
        A state for :meth:`strokelib.ssl_nnunet.network.NNUNet.load_encoder`; what else the file holds is left out.

    Raises:
        CheckpointError: The file is missing or damaged, or needs more than ``weights_only`` to be unpacked; the error
            says how to convert it.
        DataError: A weight is missing, of another shape, not finite, or its duplicates differ; named by nnU-Net's key.
    """
    held = _read(path)
    ours = {_own_encoder_name(key): key for key in held}
    names = sorted(name for name in ours if name is not None)
    if network is not None:
        names = [f"{ENCODER}{name}" for name in network.encoder.state_dict()]
        _refuse_further(Path(path), held, names, ENCODER)
    if not names:
        wanted = "weights of encoder.stages.0.0.convs.0.conv, ..."
        raise DataError(Path(path).name, found=_some(held), wanted=wanted, next_step="give a checkpoint of nnU-Net")
    own = None if network is None else network.state_dict()
    return {name.removeprefix(ENCODER): _taken(Path(path), held, name, own) for name in names}


def import_network(path: str | os.PathLike, network: NNUNet) -> dict[str, Tensor]:
    """The weights of a checkpoint of nnU-Net for a network of the same plan.

    Args:
        path: As in :func:`import_encoder`.
        network: Is not changed. With one output channel it gets the difference of nnU-Net's two.

    Returns:
        A state for ``network.load_state_dict``.

    Raises:
        CheckpointError, DataError: As :func:`import_encoder`; a DataError too where the file holds stages that the
            network has not.
    """
    held, own = _read(path), network.state_dict()
    _refuse_further(Path(path), held, own, "")
    return {name: _taken(Path(path), held, name, own, network.out_channels) for name in own}


def _write(content: dict[str, Any], path: str | os.PathLike) -> Path:
    for key, weight in content[WEIGHTS].items():
        if not bool(weight.isfinite().all()):
            step = "take weights of an earlier step"
            raise DataError(f"weight {key}", found="values that are not finite", wanted="finite ones", next_step=step)
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def _foreign(state: State, homes: tuple[str, ...] = (ENCODER, DECODER)) -> dict[str, Tensor]:
    """nnU-Net's names to weights on the CPU; duplicates share their memory, also in the file."""
    found: dict[str, Tensor] = {}
    for name, weight in state.items():
        one = weight.detach().to("cpu", copy=True).contiguous()
        found |= {key: one for key in foreign_names(name) if key.startswith(homes)}
    return found


def _read(path: str | os.PathLike) -> dict[str, Tensor]:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(path.name, found="no such file", wanted="a checkpoint", next_step="check the path")
    try:
        return load_foreign(path, sha256(path), key=WEIGHTS)
    except CheckpointError as error:
        if "pickle" not in error.found:
            raise
        wanted = "tensors and plain containers, which can be unpacked without running code"
        raise CheckpointError(error.thing, found=error.found, wanted=wanted, next_step=CONVERSION) from error


def _own_encoder_name(key: str) -> str | None:
    match = re.fullmatch(r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.((?:conv|norm)\.(?:weight|bias))", key)
    return f"{ENCODER}stages.{match[1]}.{match[2]}.{match[3]}" if match else None


def _some(held: Iterable[str]) -> str:
    return f"{', '.join(list(held)[:3]) or 'no weights'}, ..."


def _refuse_further(path: Path, held: State, names: Iterable[str], within: str) -> None:
    """Weights in the file that a network with these names has no place for."""
    known = {key for name in names for key in foreign_names(name)}
    further = [key for key in held if key.startswith(within) and key not in known]
    if further:
        step = "build the network with the plan of the file"
        raise DataError(f"{path.name}: {further[0]}", found="a weight", wanted="none in this network", next_step=step)


def _taken(path: Path, held: State, name: str, own: State | None, out_channels: int = 2) -> Tensor:
    """One of our weights from a file, its duplicates compared."""
    first, *duplicates = foreign_names(name)
    step = "build the network with the plan and the channels of the file"
    if first not in held:
        raise DataError(f"{path.name}: {first}", found=_some(held), wanted="this weight", next_step=step)
    weight = from_two_classes(name, held[first], out_channels)
    if own is not None and weight.shape != own[name].shape:
        found, wanted = f"shape {tuple(held[first].shape)}", f"shape {tuple(own[name].shape)}"
        raise DataError(f"{path.name}: {first}", found=found, wanted=wanted, next_step=step)
    differing = [key for key in duplicates if key in held and not torch.equal(held[key], held[first])]
    if differing or not bool(weight.isfinite().all()):
        found = f"other values in {differing[0]}" if differing else "values that are not finite"
        again = "the file is damaged: export it again"
        raise DataError(f"{path.name}: {first}", found=found, wanted="finite, the same in both", next_step=again)
    return weight
