"""Small scans, NIfTI files of them, and files damaged on purpose."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from strokelib.data.cases import Volume

LPS = np.diag([-0.5, -0.75, 4.0, 1.0])
LPS[:3, 3] = [60.0, 55.0, -20.0]


def scan(
    seed: int = 0, dtype: type = np.int16, shape: tuple[int, int, int] = (5, 7, 6), affine: np.ndarray = LPS
) -> Volume:
    """Noise about 30 HU."""
    values = np.random.default_rng(seed).normal(30, 300, shape)
    return Volume(values.astype(dtype), affine.copy())


def save(path: Path, array_xyz: np.ndarray, affine: np.ndarray, **header: object) -> Path:
    """A NIfTI file as nibabel writes it, fields of its header set by name."""
    image = nib.Nifti1Image(array_xyz, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def cut(path: Path, keep: int) -> Path:
    """The same file, its first bytes alone."""
    path.write_bytes(path.read_bytes()[:keep])
    return path


def patched(path: Path, offset: int, data: bytes) -> Path:
    """The same file with some bytes replaced."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    path.write_bytes(bytes(raw))
    return path
