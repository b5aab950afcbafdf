"""Weights that others trained: read by checksum and without running what is in the file."""

import hashlib
import os
import pickle
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from strokelib import train
from strokelib.errors import CheckpointError, ParameterError
from strokelib.train import foreign


def saved(path, content):
    torch.save(content, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def tensors():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda t: t, None),
        (lambda t: {"state_dict": t, "epoch": 7, "optimizer": {"lr": 0.1}}, None),
        (lambda t: {"network_weights": t, "init_args": {"fold": 0}}, None),
        (lambda t: {"model": {"state_dict": {f"module.{k}": v for k, v in t.items()}}}, None),
        (lambda t: {f"_orig_mod.module.{k}": v for k, v in t.items()}, None),
        (lambda t: {"teacher": t, "state_dict": {"x": torch.ones(1)}}, "teacher"),
        (lambda t: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in t.items()}, None),
    ],
)
def test_weights_are_found_and_lose_a_shared_prefix(tmp_path, wrap, key):
    expected = tensors()
    path, digest = saved(tmp_path / "a.pth", wrap(expected))
    found = train.load_foreign(path, digest.upper(), key=key)
    assert same(found, expected)
    assert not any(v.requires_grad for v in found.values())


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    path, digest = saved(tmp_path / "a.pth", {"module.w": torch.ones(1), "b": torch.ones(1)})
    assert sorted(train.load_foreign(path, digest)) == ["b", "module.w"]


def test_tensors_that_share_memory_become_independent_and_can_be_converted(tmp_path):
    w = torch.arange(6.0).reshape(2, 3)
    path, digest = saved(tmp_path / "a.pth", {"w": w, "tied": w, "turned": w.T})
    target = train.convert_foreign(path, digest, tmp_path / "new" / "a.safetensors")
    assert same(load_file(target), {"tied": w, "turned": w.T, "w": w})
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"source_sha256": digest}
    assert [p.name for p in target.parent.iterdir()] == ["a.safetensors"]


def test_converted_weights_fill_a_network(tmp_path):
    source, model = nn.Linear(2, 3), nn.Linear(2, 3)
    path, digest = saved(tmp_path / "a.pth", {"state_dict": source.state_dict()})
    train.load_weights(model, train.convert_foreign(path, digest, tmp_path / "a.safetensors"))
    assert torch.equal(model.weight, source.weight)


def test_another_checksum_is_refused_and_both_are_named(tmp_path):
    path, digest = saved(tmp_path / "a.pth", tensors())
    wrong = "0" * 64
    with pytest.raises(CheckpointError, match=f"found SHA-256 {digest}; wanted SHA-256 {wrong}"):
        train.load_foreign(path, wrong)
    with pytest.raises(CheckpointError, match="SHA-256"):
        train.convert_foreign(path, wrong, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_checksum_that_is_none_is_refused(tmp_path, digest):
    path, _ = saved(tmp_path / "a.pth", tensors())
    with pytest.raises(ParameterError, match="64 hexadecimal digits"):
        train.load_foreign(path, digest)


class Code:
    """A pickle that makes a folder when it is unpacked without care."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("kind", ["torch", "old torch", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path, kind):
    trap, path = tmp_path / "trap", tmp_path / "a.pth"
    content = {"state_dict": {"w": torch.ones(1)}, "more": Code(os.fspath(trap))}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Code(os.fspath(trap)), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError, match="wanted tensors in plain containers") as caught:
        train.load_foreign(path, digest)
    assert "weights_only=False" not in str(caught.value)
    assert not trap.exists()
    if kind == "torch":
        assert "a pickle that calls posix.mkdir" in str(caught.value)
        torch.load(path, weights_only=False)  # the trap is a real one
        assert trap.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.ones(1)], "a list"),
        (torch.ones(2), "a Tensor"),
        ({"state_dict": {"w": torch.ones(1), "steps": 3}}, "a mapping with steps, w"),
        ({"state_dict": {"a": {"w": torch.ones(1)}}}, "a mapping with a"),
        ({1: torch.ones(1)}, "a mapping with 1"),
        ({}, "a mapping with nothing"),
        ({"state_dict": {}}, "a mapping with nothing"),
        ({"model": {"w": torch.ones(1)}, "state_dict": {"w": torch.ones(1)}}, "a mapping with model, state_dict"),
        ({"w": torch.ones(2).to_sparse()}, "w is sparse"),
        ({"w": torch.ones(1, device="meta")}, "w is sparse, quantised or empty"),
    ],
)
def test_anything_but_a_flat_mapping_of_names_to_tensors_is_refused(tmp_path, content, found):
    path, digest = saved(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError, match=f"found {found}"):
        train.load_foreign(path, digest)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused_even_with_its_own_checksum(tmp_path, share):
    path, digest = saved(tmp_path / "a.pth", tensors())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=f"wanted SHA-256 {digest}"):
        train.load_foreign(path, digest)
    with pytest.raises(CheckpointError, match="no whole file of torch"):
        train.load_foreign(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_what_is_no_file_of_torch_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="Is a directory"):
        train.load_foreign(tmp_path, "0" * 64)
    with pytest.raises(CheckpointError, match="No such file"):
        train.load_foreign(tmp_path / "none.pth", "0" * 64)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "nothing here")
    with pytest.raises(CheckpointError, match="no whole file of torch"):
        train.load_foreign(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("version", ["2.9.1+cpu", "1.13.0"])
def test_a_torch_that_is_too_old_to_unpack_safely_is_refused(tmp_path, monkeypatch, version):
    path, digest = saved(tmp_path / "a.pth", tensors())
    monkeypatch.setattr(foreign.torch, "__version__", version)
    with pytest.raises(CheckpointError, match=r"wanted 2\.10 or newer"):
        train.load_foreign(path, digest)
