"""Demo weights: a method's networks in one file, ready to predict without any training.

A file is safetensors: the networks' tensors, named ``<network>/<tensor>``, and in its metadata one JSON text of plain
facts (what was trained, on what, with which recipes and scores), from which the networks are built again and the model
card is written (:mod:`strokelib.methods.weight_cards`). Kernels are stored as float16, those of networks of more than
:data:`LARGE` weights as one byte a weight and a scale an output channel; everything else as float32.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from strokelib import manifest, repro
from strokelib.data.cases import Case
from strokelib.errors import CheckpointError, ParameterError
from strokelib.methods.method import Method
from strokelib.methods.weight_kinds import KINDS, Kind, Part
from strokelib.nn.precision import channels_last
from strokelib.recipe import Recipe

KEYS = tuple(KINDS)
FORMAT, HEADER, SCALE = 1, "strokelib", ".scale"
LARGE = 500_000
STEPS_OF_A_BYTE = 127


@dataclass(frozen=True)
class Demo:
    """A method with the weights that a demo run gave it.

    Args:
        kind: What the method is and how its networks work together.
        parts: Its networks by name, in the order in which they are used; the last one segments.
        facts: What is known of the trainings, as plain values.
        file: Name of the file.
        sha256: Of the file.
    """

    kind: Kind
    parts: dict[str, Part]
    facts: dict[str, Any]
    file: str
    sha256: str

    @property
    def key(self) -> str:
        """Of :data:`KEYS`."""
        return self.kind.key

    @property
    def title(self) -> str:
        """Name in figures and tables."""
        return self.kind.title

    @property
    def paper(self) -> str:
        """Where the method comes from."""
        return self.kind.paper

    @property
    def row(self) -> str:
        """The row of the paper's tables whose training this is."""
        return self.facts["row"]

    @property
    def status(self) -> str:
        """``1 seed``, ``undertrained`` or ``did not learn``."""
        return self.facts["scores"]["status"]

    @property
    def needs(self) -> str:
        """``ct`` or ``perfusion``."""
        return self.kind.needs

    @property
    def summary(self) -> str:
        """One line: mean Dice over test scans with its 95 % interval, on what, and its status."""
        (mean, low, high), n = self.facts["scores"]["dice"], self.facts["scores"]["n"]
        said = f"Dice {mean:.3f} ({low:.3f} to {high:.3f})"
        return f"{self.key:<10} {said}, embedded {self.facts['cohort']}, n = {n}; {self.status}"

    @property
    def _last(self) -> Part:
        return list(self.parts.values())[-1]

    @property
    def method(self) -> Method:
        """Of the network that segments."""
        return self._last.method

    @property
    def recipe(self) -> Any:
        """Of the network that segments."""
        return self._last.recipe

    @property
    def model(self) -> nn.Module:
        """The network that segments, in eval mode."""
        return self._last.model

    def see(self, case: Case) -> Case:
        """A case as the network that segments takes it: aligned, or with the channels that it needs.

        Args:
            case: A prepared case with a brain mask.

        Raises:
            DataError: The case lacks what the method needs: a brain mask, or perfusion.
        """
        return self.kind.see(self.parts, self.facts, case)[0]

    def predict(self, case: Case) -> np.ndarray:
        """Segment a case.

        Args:
            case: A prepared case with a brain mask, in voxels of 5 x 2 x 2 mm.

        Returns:
            Foreground probability (D, H, W) float32 in [0, 1] on the case's own grid; 0 outside its brain.

        Raises:
            DataError: As :meth:`see`.
        """
        seen, back = self.kind.see(self.parts, self.facts, case)
        found = back(self.method.predict(self.model, self.recipe, seen).astype(np.float32))
        return np.where(case.brain, np.clip(found, 0, 1), np.float32(0)).astype(np.float32)


def load(key: str, file: str | os.PathLike | None = None) -> Demo:
    """A method with its demo weights.

    Args:
        key: Of :data:`KEYS`.
        file: Weights that :mod:`strokelib.methods.weight_export` wrote; those that are shipped by default.

    Raises:
        ParameterError: Unknown key.
        ManifestError: The shipped file is damaged.
        CheckpointError: The file is missing, damaged, of another method, or not written by strokelib.
    """
    if key not in KINDS:
        raise ParameterError("demo weights", found=repr(key), wanted=" or ".join(KINDS), next_step="give one of these")
    path = manifest.asset(f"weights/{key}.safetensors") if file is None else Path(file)
    facts, tensors = read(path)
    if facts["key"] != key:
        step = f"give weights of {key}, or the method {facts['key']}"
        raise CheckpointError(path.name, found=f"weights of {facts['key']}", wanted=key, next_step=step)
    kind = KINDS[key]
    try:
        with torch.random.fork_rng(devices=[]):  # what is drawn for a start is overwritten, and changes nobody's seed
            parts = {name: built(kind, name, said) for name, said in facts["parts"].items()}
        if tuple(parts) != tuple(kind.networks):
            raise ValueError(f"networks {sorted(parts)}")
    except (TypeError, ValueError, KeyError) as error:
        raise _refused(path, f"facts that do not fit this version: {error}") from error
    for name, part in parts.items():
        _fill(part.model, name, kind.unused(name), tensors, path)
        channels_last(part.model.to(repro.device())).eval()
    if tensors:
        raise _refused(path, f"tensors that no network has: {sorted(tensors)[:3]}")
    return Demo(kind, parts, facts, path.name, repro.sha256(path))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and the tensors of a file.

    Raises:
        CheckpointError: It is missing, damaged, or was not written by strokelib.
    """
    if not path.is_file():
        step = "check the name, or write it with `strokelib train METHOD --export FOLDER`"
        raise CheckpointError(path.name, found="no such file", wanted="demo weights", next_step=step)
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except Exception as error:
        raise _refused(path, str(error).splitlines()[0]) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise _refused(path, "no facts of this format in its metadata")
    return facts, tensors


def _refused(path: Path, found: str) -> CheckpointError:
    step = "restore the file, or export it again with `strokelib train METHOD --export FOLDER`"
    return CheckpointError(path.name, found=found, wanted="demo weights written by strokelib", next_step=step)


def built(kind: Kind, name: str, said: Mapping[str, Any]) -> Part:
    """The network of one part, with the recipe that stands in its facts and the weights of a start.

    Args:
        kind: The method.
        name: Of the network.
        said: Its facts.
    """
    method = kind.method(name, said)
    recipe = restored(method.recipe, said["recipe"])
    return Part(method, recipe, method.build(recipe))


def restored(kind: type[Recipe], values: Mapping[str, Any]) -> Recipe:
    """A recipe from the values that its facts hold.

    Args:
        kind: Its class.
        values: All of its fields, as JSON has them: lists stand for tuples.

    Raises:
        ValueError: A field is missing, or there is one that the class does not have.
    """
    names = {one.name for one in dataclasses.fields(kind)}
    if names != set(values):
        raise ValueError(f"{kind.__name__} differs in {sorted(names ^ set(values))}")
    return kind(**{name: as_tuples(value) for name, value in values.items()})


def as_tuples(value: Any) -> Any:
    """Lists as tuples, at every depth; the rest as it is."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def stored(name: str, model: nn.Module, unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A network's tensors as a file holds them.

    Args:
        name: Of the network.
        model: The network.
        unused: Beginnings of the names of tensors that prediction does not need.
    """
    state = {k: v.detach().cpu() for k, v in model.state_dict().items() if not k.startswith(unused)}
    large = sum(v.numel() for v in state.values()) > LARGE
    tensors = {}
    for place, value in state.items():
        values = value.contiguous()
        if value.is_floating_point() and value.ndim > 1 and large:
            values, tensors[f"{name}/{place}{SCALE}"] = in_bytes(values)
        elif value.is_floating_point() and value.ndim > 1:
            values = values.half()
        tensors[f"{name}/{place}"] = values
    return tensors


def in_bytes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as whole numbers of -127 to 127 and a scale an output channel: values ~ numbers * scale.

    Args:
        values: (C, ...) float, finite.

    Returns:
        Numbers (C, ...) int8, and scales (C,) float32; a channel of zeros has the scale 1.
    """
    scale = values.abs().flatten(1).amax(1).float() / STEPS_OF_A_BYTE
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (values / scale.view(-1, *[1] * (values.ndim - 1))).round().to(torch.int8), scale


def from_bytes(numbers: Tensor, scale: Tensor) -> Tensor:
    """The weights (C, ...) float32 that :func:`in_bytes` stored."""
    return numbers.float() * scale.view(-1, *[1] * (numbers.ndim - 1))


def _fill(model: nn.Module, name: str, unused: tuple[str, ...], tensors: dict[str, Tensor], path: Path) -> None:
    """Take a network's tensors out of a file's and fill the network with them."""
    state = model.state_dict()
    for place, value in state.items():
        if place.startswith(unused):
            continue
        found = tensors.pop(f"{name}/{place}", None)
        if found is not None and found.dtype == torch.int8 and value.is_floating_point():
            scale = tensors.pop(f"{name}/{place}{SCALE}", None)
            found = None if scale is None or scale.shape != found.shape[:1] else from_bytes(found, scale)
        if found is None or found.shape != value.shape or (found.is_floating_point() != value.is_floating_point()):
            said = "nothing usable" if found is None else f"{tuple(found.shape)} {found.dtype}"
            raise _refused(path, f"{said} for {name}/{place}, which is {tuple(value.shape)}")
        if found.is_floating_point() and not torch.isfinite(found).all() and not torch.isnan(value).all():
            raise _refused(path, f"values that are not finite in {name}/{place}")  # a start may be NaN: an average
        state[place] = found.to(value.dtype)
    model.load_state_dict(state)
