"""Many binary masks on one grid in one small file.

The file is one xz stream. Inside it, in this order:

* 8 bytes: ``STRKMSK1``;
* 4 bytes: length n of the index, unsigned, little-endian;
* n bytes: the index, JSON in UTF-8: ``shape`` (X, Y, Z), ``affine`` (4 x 4, index to RAS millimetres) and ``masks``,
  one entry a mask ``[patient, dtype, start, size]`` with the bounding box's first index and size along (x, y, z);
* the boxes in the index's order: a box is turned to (z, y, x) and each row of x is packed to bits, highest bit first,
  the last byte of a row filled with zeros. Rows that start at a byte compress a quarter better than one unbroken run
  of bits.

Nothing is lost: dtype, shape, affine and every voxel come back as they were stored.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from strokelib.errors import DataError
from strokelib.repro import atomic_path

MAGIC = b"STRKMSK1"
PATIENT = re.compile(r"sub-(\d+)")
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26, "pb": 0}]


@dataclass(frozen=True)
class Box:
    """Where one mask's box lies on the grid and in the payload.

    Args:
        dtype: Type of the voxels in the original file.
        start: First index along (x, y, z).
        size: Length along (x, y, z).
        offset: First byte in the payload.
    """

    dtype: str
    start: tuple[int, int, int]
    size: tuple[int, int, int]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one packed row of x."""
        return -(-self.size[0] // 8)

    @property
    def bytes(self) -> int:
        """Bytes of the whole packed box."""
        return self.row_bytes * self.size[1] * self.size[2]


class MaskLibrary:
    """A decoded file: the packed boxes in memory, unpacked one at a time.

    Args:
        path: A file that :func:`pack` wrote.

    Raises:
        DataError: The file is damaged or of another kind.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        try:
            with lzma.open(path) as stream:
                if stream.read(len(MAGIC)) != MAGIC:
                    raise lzma.LZMAError("another kind of file")
                (length,) = struct.unpack("<I", stream.read(4))
                index = json.loads(stream.read(length))
                self._payload = np.frombuffer(stream.read(), np.uint8)
        except (lzma.LZMAError, EOFError, struct.error, ValueError) as error:
            wanted, step = "a mask library", "restore the file from the repository"
            raise DataError(path, found=f"{type(error).__name__}: {error}", wanted=wanted, next_step=step) from error
        self.shape = tuple(index["shape"])
        self.affine = np.array(index["affine"], np.float64)
        boxes = {name: Box(dtype, tuple(start), tuple(size), 0) for name, dtype, start, size in index["masks"]}
        offsets = accumulate((box.bytes for box in boxes.values()), initial=0)
        self._boxes = {n: Box(b.dtype, b.start, b.size, o) for (n, b), o in zip(boxes.items(), offsets, strict=False)}
        if sum(box.bytes for box in boxes.values()) != self._payload.size:
            wanted, step = f"{sum(b.bytes for b in boxes.values())} bytes", "restore the file from the repository"
            raise DataError(path, found=f"{self._payload.size} bytes of masks", wanted=wanted, next_step=step)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients in the file's order."""
        return tuple(self._boxes)

    def box(self, patient: str) -> Box:
        """Place of a patient's mask.

        Raises:
            DataError: No such patient.
        """
        if patient not in self._boxes:
            wanted = f"one of {len(self._boxes)} patients such as {next(iter(self._boxes))}"
            raise DataError("patient", found=repr(patient), wanted=wanted, next_step="see infarct_ids()")
        return self._boxes[patient]

    def array(self, patient: str, order: str = "C") -> np.ndarray:
        """One mask.

        Args:
            patient: Such as ``sub-1000``.
            order: Memory layout, ``C`` or ``F`` (as nibabel returns it).

        Returns:
            (X, Y, Z), 0 or 1, in the original dtype.
        """
        box = self.box(patient)
        rows = self._payload[box.offset : box.offset + box.bytes].reshape(box.size[2], box.size[1], box.row_bytes)
        inside = np.unpackbits(rows, axis=-1, count=box.size[0]).transpose(2, 1, 0)
        whole = np.zeros(self.shape, box.dtype, order=order)
        whole[tuple(slice(s, s + n) for s, n in zip(box.start, box.size, strict=True))] = inside
        return whole


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each NIfTI file in a folder or a tar archive."""
    if source.is_dir():
        for path in source.glob("*.nii.gz"):
            yield path.name, path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".nii.gz"):
                yield Path(member.name).name, archive.extractfile(member).read()


def _load(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    import nibabel as nib

    image = nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(raw)))
    return np.asanyarray(image.dataobj), image.affine


def pack(source: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Write a mask library; patients are sorted by their number.

    Args:
        source: Folder or tar archive of binary ``.nii.gz`` masks whose names hold ``sub-<number>``.
        target: The file to write.

    Raises:
        DataError: A mask is empty, holds other values than 0 and 1, or lies on another grid than the first.
    """
    grid, packed = None, {}
    for name, raw in _files(Path(source)):
        array, affine = _load(raw)
        here = (array.shape, affine.tolist())
        grid = grid or here
        mask, match = array == 1, PATIENT.search(name)
        if match is None or here != grid or not mask.any() or not np.array_equal(mask, array):
            found, step = f"grid {here}, values {array.min()} to {array.max()}", "leave it out or resample it"
            raise DataError(name, found=found, wanted=f"sub-<number> on grid {grid}, values 0, 1", next_step=step)
        edges = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
        start, size = [int(a) for a, _ in edges], [int(b - a + 1) for a, b in edges]
        box = mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))].transpose(2, 1, 0)
        entry = [match[0], array.dtype.name, start, size]
        packed[int(match[1])] = (entry, np.packbits(box, axis=-1).tobytes())
    if grid is None:
        raise DataError(source, found="no .nii.gz file", wanted="binary masks", next_step="check the path")
    ordered = [packed[number] for number in sorted(packed)]
    index = {"shape": grid[0], "affine": grid[1], "masks": [entry for entry, _ in ordered]}
    head = json.dumps(index, separators=(",", ":")).encode()
    content = b"".join([MAGIC, struct.pack("<I", len(head)), head, *(body for _, body in ordered)])
    with atomic_path(target) as temporary:
        temporary.write_bytes(lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=FILTERS))
    return Path(target)
