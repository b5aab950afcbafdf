"""Damaged and dangerous files: one corpus, each refused in words, none read as something that it is not.

Three tables: files that one reader is given, folders that :func:`strokelib.data.checking.check` is given, and scans
that name a patient. Each entry makes its file in an empty folder.
"""

import gzip
import json
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokelib.data import cases
from strokelib.data.archives import unpack as archives_unpack
from strokelib.data.cases import Volume
from strokelib.data.checking import check
from strokelib.data.guarded import LIMITS_MEMORY, read_many
from strokelib.data.reading import read_dicom, read_nifti, write_nifti
from strokelib.data.series import read_series
from strokelib.data.writing import write_nifti_like
from strokelib.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
import archives
from made_scans import LPS, cut, patched, save, scan


def with_affine(value):
    affine = LPS.copy()
    affine[:3, :3] = value
    return affine


def flipped(path, place):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0x10
    path.write_bytes(bytes(raw))
    return path


def appended(path, data):
    path.write_bytes(path.read_bytes() + data)
    return path


def bomb(path):
    """A header that announces a small scan, then 256 MB of zeros in 260 kB."""
    write_nifti(scan(), path)
    with gzip.open(path) as file:
        good = file.read()
    with gzip.open(path, "wb") as file:
        file.write(good)
        for _ in range(256):
            file.write(bytes(2**20))
    return path


DAMAGED = {
    "a missing file": (lambda p: p / "none.nii", "no such file"),
    "a folder": (lambda p: p, "no such file"),
    "another suffix": (lambda p: Path(write_nifti(scan(), p / "a.nii")).rename(p / "a.img"), "a.img"),
    "an empty file": (lambda p: cut(write_nifti(scan(), p / "a.nii"), 0), "header"),
    "a cut header": (lambda p: cut(write_nifti(scan(), p / "a.nii"), 200), "header"),
    "cut voxels": (lambda p: cut(write_nifti(scan(), p / "a.nii"), 600), "cut short"),
    "a cut gzip stream": (lambda p: cut(write_nifti(scan(), p / "a.nii.gz"), 250), "intact"),
    "a gzip stream without its checksum": (
        lambda p: cut(q := write_nifti(scan(), p / "a.nii.gz"), q.stat().st_size - 6),
        "intact",
    ),
    "plain bytes named gzip": (lambda p: write_nifti(scan(), p / "a.nii").rename(p / "a.nii.gz"), "intact"),
    "text": (lambda p: (p / "a.nii").write_text("not a scan " * 60) and p / "a.nii", "header"),
    "NaN voxels": (lambda p: save(p / "a.nii", np.full((2, 3, 4), np.nan, np.float32), LPS), "24 voxels"),
    "infinite voxels": (lambda p: save(p / "a.nii", np.full((2, 3, 4), np.inf, np.float32), LPS), "infinite"),
    "two axes": (lambda p: save(p / "a.nii", np.zeros((4, 4), np.int16), LPS), "2 axes"),
    "four axes": (lambda p: save(p / "a.nii", np.zeros((4, 4, 4, 3), np.int16), LPS), "4 axes"),
    "colours": (lambda p: save(p / "a.nii", np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), LPS), "type"),
    "complex voxels": (lambda p: save(p / "a.nii", np.zeros((3, 3, 3), np.complex64), LPS), "type"),
    "a zero affine": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 280, bytes(48)), "voxel sizes"),
    "a NaN affine": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 280, np.float32([np.nan]).tobytes()),
        "NaN",
    ),
    "axes in one plane": (lambda p: save(p / "a.nii", np.zeros((3, 3, 3), np.int16), with_affine(1.0)), "one plane"),
    "voxels of a metre": (
        lambda p: save(p / "a.nii", np.zeros((3, 3, 3), np.int16), np.diag([1000.0, 1000.0, 1000.0, 1.0])),
        "voxel sizes",
    ),
    "no orientation": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 252, bytes(4)), "left and right"),
    "two orientations": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 280, np.float32([0.5]).tobytes()),
        "against",
    ),
    "a length of zero": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 42, np.int16([0]).tobytes()), "wanted"),
    "a negative length": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 42, np.int16([-5]).tobytes()), "wanted"),
    "a bit flipped in the gzip stream": (lambda p: flipped(write_nifti(scan(), p / "a.nii.gz"), 60), "intact"),
    "a wrong gzip checksum": (lambda p: flipped(write_nifti(scan(), p / "a.nii.gz"), -7), "intact"),
    "a wrong gzip length": (lambda p: flipped(write_nifti(scan(), p / "a.nii.gz"), -3), "intact"),
    "rubbish after the gzip stream": (lambda p: appended(write_nifti(scan(), p / "a.nii.gz"), b"rubbish"), "intact"),
    "a second scan behind the first": (lambda p: appended(write_nifti(scan(), p / "a.nii"), bytes(2**21)), "too many"),
    "a gzip bomb": (lambda p: bomb(p / "a.nii.gz"), "too many"),
    "a header of another byte order and size": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 0, np.int32([349]).tobytes()),
        "header",
    ),
    "a wrong magic": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 344, b"abc"), "header"),
    "an unknown data type": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 70, np.int16([9999]).tobytes()),
        "wanted",
    ),
    "eight axes": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 40, np.int16([8]).tobytes()), "wanted"),
    "no axes": (lambda p: patched(write_nifti(scan(), p / "a.nii"), 40, np.int16([0]).tobytes()), "wanted"),
    "an offset of NaN": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 108, np.float32([np.nan]).tobytes()),
        "wanted",
    ),
    "a negative offset": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 108, np.float32([-100]).tobytes()),
        "wanted",
    ),
    "an offset beyond the file": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 108, np.float32([9e8]).tobytes()),
        "wanted",
    ),
    "an infinite affine": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 280, np.float32([np.inf]).tobytes()),
        "infinity",
    ),
    "a web page": (lambda p: (p / "a.nii.gz").write_bytes(b"<html>not found</html>") and p / "a.nii.gz", "intact"),
    "a vast shape": (
        lambda p: patched(write_nifti(scan(), p / "a.nii"), 42, np.int16([32000, 32000, 32000]).tobytes()),
        "voxels",
    ),
}


def nifti(path, **changes):
    """A good NIfTI file with bytes of its header replaced: place_<offset>=bytes."""
    write_nifti(scan(), path)
    for place, data in changes.items():
        patched(path, int(place.removeprefix("place_")), data)
    return path


def huge(path):
    """2**30 voxels of float64 by its header, in 8 MB: gzip members of zeros, one after the other."""
    head = bytearray(nifti(path.with_name("small.nii"), place_42=np.int16([1024] * 3).tobytes()).read_bytes()[:352])
    head[70:74] = np.int16([64, 64]).tobytes()
    path.write_bytes(gzip.compress(bytes(head)) + gzip.compress(bytes(2**25), 6) * 256)
    return path


def series(path, shape=(4, 5, 3, 6), **header):
    return save(path, np.zeros(shape, np.int16), LPS, sform_code=1, **header)


def dicom(folder, change=lambda folder: None, slices=8, affine=LPS):
    """One good series of eight slices, changed."""
    values = np.random.default_rng(0).integers(-1000, 1000, (slices, 16, 20)).astype(np.int16)
    archives.write_dicom(Volume(values, affine), folder / "CT")
    change(folder / "CT")
    return folder / "CT"


def element(file, tag, value):
    """Replace one text element of a slice, which is stored without its type (implicit VR)."""
    raw = file.read_bytes()
    place = raw.index(bytes(tag)) + 8
    length = int.from_bytes(raw[place - 4 : place], "little")
    value += b" " * (len(value) % 2)
    file.write_bytes(raw[: place - 4] + len(value).to_bytes(4, "little") + value + raw[place + length :])
    return raw[place : place + length].strip()


def tags(folder, old, new):
    """The same bytes with one text replaced by another of its length, in every slice."""
    assert len(old) == len(new)
    for file in folder.iterdir():
        raw = file.read_bytes()
        assert old in raw
        file.write_bytes(raw.replace(old, new))


def tilted(folder):
    """Slices that a gantry tilted by 20 degrees, one straight above the other."""
    for file in folder.iterdir():
        element(file, b"\x20\x00\x37\x00", b"1\\0\\0\\0\\0.93969262\\-0.34202014")
        raw = file.read_bytes()
        place = raw.index(b"\x20\x00\x0d\x00")
        file.write_bytes(raw[:place] + b"\x18\x00\x20\x11\x02\x00\x00\x0020" + raw[place:])


def two_series(folder):
    dicom(folder / "other")
    tags(folder / "other" / "CT", b"20200101", b"20200102")
    for file in (folder / "other" / "CT").iterdir():
        raw = file.read_bytes().replace(b"2\x20\x20\x00\x12\x00", b"3\x20\x20\x00\x12\x00")
        (folder / f"b{file.name}").write_bytes(raw)
    shutil.rmtree(folder / "other")


def packed(path, members, **how):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data, **how)
    return path


def linked(path):
    link = zipfile.ZipInfo("CT/001.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return packed(path, [(link, "/etc/passwd")])


def locked(path):
    packed(path, [("a.dcm", b"x" * 100)])
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(raw))
    return path


def spoilt(path):
    """A zip archive whose packed bytes are damaged, while its folder of contents is whole."""
    packed(path, [("a.dcm", b"abcd" * 500 + np.random.default_rng(0).bytes(500))])
    return patched(path, 60, bytes(40))


NIFTI = DAMAGED | {
    "2**30 voxels in 8 MB": (lambda p: huge(p / "a.nii.gz"), "packed at most 200 fold"),
    "a length made shorter": (lambda p: nifti(p / "a.nii", place_42=np.int16([3]).tobytes()), "210 bytes too many"),
    "a length made longer": (lambda p: nifti(p / "a.nii", place_42=np.int16([9]).tobytes()), "cut short"),
    "a shear that lays the slices flat": (
        lambda p: save(p / "a.nii", np.zeros((3, 3, 3), np.int16), LPS + np.eye(4)[[3, 2, 3, 3]] * 90),
        "one plane",
    ),
    "a voxel size of zero": (
        lambda p: nifti(p / "a.nii", place_254=bytes(2), place_80=bytes(4)),
        "voxel sizes",
    ),
    "an infinite slope": (lambda p: nifti(p / "a.nii", place_112=np.float32([np.inf]).tobytes()), "wanted"),
    "a slope beyond all HU": (
        lambda p: nifti(p / "a.nii", place_112=np.float32([3e38, 3e38]).tobytes()),
        "infinite",
    ),
    "a quaternion that is none": (
        lambda p: nifti(p / "a.nii", place_254=bytes(2), place_256=np.float32([9, 9, 9]).tobytes()),
        "w2 should be positive",
    ),
    "a good sform beside a quaternion that is none": (
        lambda p: nifti(p / "a.nii", place_256=np.float32([9, 9, 9]).tobytes()),
        "w2 should be positive",
    ),
    "sizes of 2**62 in NIfTI-2": (
        lambda p: patched(
            Path(nib.save(nib.Nifti2Image(np.zeros((3, 3, 3), np.int16), LPS), p / "a.nii") or p / "a.nii"),
            24,
            np.int64([2**62] * 3).tobytes(),
        ),
        "voxels",
    ),
    "a header alone": (lambda p: cut(write_nifti(scan(), p / "a.nii"), 352), "cut short"),
}
SERIES = {
    "one volume for a series": (lambda p: write_nifti(scan(), p / "a.nii"), "two frames or more"),
    "a series cut short": (lambda p: cut(series(p / "a.nii"), 800), "cut short"),
    "a series of no frames": (lambda p: patched(series(p / "a.nii"), 48, bytes(2)), "wanted"),
    "a series with NaN": (
        lambda p: save(p / "a.nii", np.full((2, 2, 2, 3), np.nan, np.float32), LPS, sform_code=1),
        "NaN",
    ),
    "a series that says no place": (lambda p: patched(series(p / "a.nii"), 252, bytes(4)), "left and right"),
}
SCANS = {
    "an empty folder": (lambda p: (p / "CT").mkdir() or p / "CT", "DICOM slices"),
    "text named dcm": (lambda p: dicom(p, lambda f: [g.write_text("x" * 3000) for g in f.iterdir()]), "DICOM slices"),
    "slices all cut": (
        lambda p: dicom(p, lambda f: [cut(g, g.stat().st_size - 90) for g in f.iterdir()]),
        "DICOM slices",
    ),
    "one slice cut in its pixels": (lambda p: dicom(p, lambda f: cut(f / "004.dcm", 1400)), "DICOM slices"),
    "one slice cut in its header": (lambda p: dicom(p, lambda f: cut(f / "004.dcm", 300)), "7 slices, numbered 1 to 8"),
    "one slice missing in the middle": (lambda p: dicom(p, lambda f: (f / "005.dcm").unlink()), "with a hole"),
    "a tilt over two slices, which cannot be undone": (
        lambda p: dicom(p, tilted, slices=2),
        "still sheared by 20.0 degrees",
    ),
    "MR for CT": (
        lambda p: dicom(p, lambda f: tags(f, b"\x60\x00\x02\x00\x00\x00CT", b"\x60\x00\x02\x00\x00\x00MR")),
        "found none",
    ),
    "two series in one folder": (lambda p: dicom(p, two_series), "wanted one"),
    "a zip archive that is none": (lambda p: (p / "a.zip").write_bytes(b"PK no") and p / "a.zip", "intact zip"),
    "a zip archive cut short": (lambda p: cut(packed(p / "a.zip", [("a.dcm", b"x" * 900)]), 60), "intact zip"),
    "a zip archive with damaged contents": (lambda p: spoilt(p / "a.zip"), "intact zip"),
    "a zip archive with a password": (lambda p: locked(p / "a.zip"), "no password"),
    "a path out of the archive": (lambda p: packed(p / "a.zip", [("../../a.dcm", b"x")]), "names inside"),
    "an absolute path in the archive": (lambda p: packed(p / "a.zip", [("/etc/a.dcm", b"x")]), "names inside"),
    "a drive in the archive": (lambda p: packed(p / "a.zip", [("C:\\a.dcm", b"x")]), "names inside"),
    "a link in the archive": (lambda p: linked(p / "a.zip"), "link or device"),
    "one name twice but for case": (lambda p: packed(p / "a.zip", [("a.dcm", b"x"), ("A.DCM", b"y")]), "two members"),
    "a zip bomb": (lambda p: packed(p / "a.zip", [("a.dcm", bytes(2**24))]), "grows"),
    "a file where the archive wants a folder": (
        lambda p: packed(p / "a.zip", [("a", b"x"), ("a/b.dcm", b"y")]),
        "intact zip",
    ),
}
CORPUS = {
    f"{kind}: {name}": (read, *entry)
    for kind, read, table in (
        ("nifti", read_nifti, NIFTI),
        ("series", read_series, SERIES),
        ("dicom", read_dicom, SCANS),
    )
    for name, entry in table.items()
}
BOMBS = ["nifti: a gzip bomb", "nifti: a vast shape", "nifti: 2**30 voxels in 8 MB", "nifti: sizes of 2**62 in NIfTI-2"]


class TestDamagedFiles:
    @pytest.mark.parametrize("name", CORPUS)
    def test_each_kind_is_refused_with_file_finding_wish_and_next_step(self, tmp_path, name):
        read, make, words = CORPUS[name]
        path = make(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(DataError) as refusal:
            read(path)
        error = refusal.value
        assert words in str(error)
        assert error.thing == path.name
        assert str(tmp_path) not in str(error)
        assert error.found
        assert error.wanted
        assert error.next_step
        assert sorted(tmp_path.rglob("*")) == before, "nothing was written"

    def test_the_corpus_is_a_corpus(self):
        assert len(CORPUS) >= 70

    def test_a_guarded_reader_says_the_same_of_each_through_one_child(self, tmp_path):
        paths, said = [], []
        for n, name in enumerate(name for name in CORPUS if name.startswith("nifti: ") and name not in BOMBS):
            (tmp_path / str(n)).mkdir()
            read, make, _ = CORPUS[name]
            paths.append(make(tmp_path / str(n)))
            with pytest.raises(DataError) as refusal:
                read(paths[-1])
            said.append(refusal.value.args)
        assert [result.args for _, result in read_many(paths, kind="nifti")] == said

    @pytest.mark.skipif(not LIMITS_MEMORY, reason="this system does not limit address space")
    @pytest.mark.parametrize("name", BOMBS)
    def test_no_file_makes_the_reader_itself_take_much_memory(self, tmp_path, name):
        path = CORPUS[name][1](tmp_path)
        script = (
            "import sys, resource\n"
            "from strokelib.data.reading import read_nifti\n"
            "from strokelib.errors import DataError\n"
            "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try:\n    read_nifti(sys.argv[1])\n"
            "except DataError:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        assert int(done.stdout) < 64 * 2**10, "peak resident kB above that of the imports"

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_no_cut_of_a_good_file_is_ever_read(self, tmp_path, suffix):
        path = write_nifti(scan(), tmp_path / f"a{suffix}")
        whole = path.read_bytes()
        for keep in range(0, len(whole), 41):
            path.write_bytes(whole[:keep])
            with pytest.raises(DataError):
                read_nifti(path)

    def test_no_flipped_bit_of_a_packed_file_changes_a_voxel_unseen(self, tmp_path):
        path, good = tmp_path / "a.nii.gz", scan()
        whole = write_nifti(good, path).read_bytes()
        refused = 0
        for place in range(0, len(whole), 7):
            raw = bytearray(whole)
            raw[place] ^= 1 << place % 8
            path.write_bytes(bytes(raw))
            try:
                np.testing.assert_array_equal(read_nifti(path).array, good.array)
            except DataError:
                refused += 1
        assert refused >= len(whole) // 7 - 3, (
            "only time stamp and system in the gzip header say nothing about the data"
        )

    def test_no_flipped_bit_of_a_header_escapes_the_typed_errors(self, tmp_path):
        rng, ends = np.random.default_rng(0), {"read": 0, "refused": 0}
        for read, name in ((read_nifti, "a.nii"), (read_series, "b.nii")):
            path = tmp_path / name
            whole = (write_nifti(scan(), path) if read is read_nifti else series(path)).read_bytes()
            for _ in range(400):
                raw = bytearray(whole)
                for place in rng.integers(0, 352, rng.integers(1, 5)):
                    raw[place] = rng.integers(256)
                path.write_bytes(bytes(raw))
                try:
                    read(path)
                    ends["read"] += 1
                except DataError:
                    ends["refused"] += 1
        assert ends["refused"] > 50
        assert sum(ends.values()) == 800

    def test_no_flipped_byte_of_an_archive_escapes_the_typed_errors(self, tmp_path):
        rng, path, refused = np.random.default_rng(0), tmp_path / "a.zip", 0
        whole = packed(path, [(f"{n}.txt", b"abcd" * 100 + rng.bytes(50)) for n in range(2)]).read_bytes()
        for place in rng.integers(0, len(whole), 200):
            raw = bytearray(whole)
            raw[place] ^= 0x55
            path.write_bytes(bytes(raw))
            target = tmp_path / "target"
            target.mkdir()
            try:
                archives_unpack(path, target)
            except DataError:
                refused += 1
            shutil.rmtree(target)
        assert refused > 100


def small_bids(root, count=2):
    return archives.write_bids(root, count=count)


CT = "sub-00/ct/sub-00_ct.nii.gz"
MASK = "derivatives/sub-00/sub-00_lesion-msk.nii.gz"


def changed(root, place, change):
    volume = read_nifti(root / place)
    write_nifti(change(volume), root / place)


CHECKED = {
    "grey values for HU": (
        lambda r: changed(r, CT, lambda v: v.with_array(np.clip(v.array, 0, 80).astype(np.uint8))),
        ("error", CT, "grey values of 0 to 80"),
    ),
    "an offset of 1024": (
        lambda r: changed(r, CT, lambda v: v.with_array(v.array + np.int16(1024))),
        ("note", CT, "no value below"),
    ),
    "a mask of another shape": (
        lambda r: changed(r, MASK, lambda v: Volume(v.array[:, 1:], v.affine)),
        ("error", MASK, "shape"),
    ),
    "a mask elsewhere": (
        lambda r: changed(r, MASK, lambda v: Volume(v.array, v.affine + np.eye(4)[:, [3, 3, 3, 0]] * 9)),
        ("error", MASK, "an affine that differs by 9"),
    ),
    "a mask mirrored": (
        lambda r: changed(r, MASK, lambda v: Volume(v.array, v.affine * [[-1], [1], [1], [1]])),
        ("error", MASK, "an affine that differs"),
    ),
    "an empty mask": (
        lambda r: changed(r, MASK, lambda v: v.with_array(v.array * 0)),
        ("note", MASK, "an empty mask"),
    ),
    "a mask of other labels": (
        lambda r: changed(r, MASK, lambda v: v.with_array(v.array * 7)),
        ("error", MASK, "labels [0, 7]"),
    ),
    "a mask that fills the head": (
        lambda r: changed(r, MASK, lambda v: v.with_array(np.ones_like(v.array))),
        ("note", MASK, "mL"),
    ),
    "a mask with NaN": (
        lambda r: (
            changed(r, MASK, lambda v: v.with_array(np.where(v.array > 0, 1.0, 0.0).astype(np.float32)))
            or patched(unpacked(r / MASK), 352, np.float32([np.nan]).tobytes())
        ),
        ("error", "derivatives/sub-00/sub-00_lesion-msk.nii", "1 voxels NaN"),
    ),
    "a cut CT": (lambda r: cut(r / CT, 500), ("error", CT, "EOFError")),
    "one id, two scans": (
        lambda r: shutil.copy(r / CT, r / "sub-00/ct/sub-00_run-2_ct.nii.gz"),
        ("error", "sub-00/ct/sub-00_run-2_ct.nii.gz", "a further file"),
    ),
    "one scan, two ids": (
        lambda r: shutil.copy(r / CT, r / CT.replace("00", "01")),
        ("error", CT.replace("00", "01"), "the CT of sub-00"),
    ),
    "a case without CT": (
        lambda r: (r / CT).rename(r / CT.replace("_ct.", "_cta.")),
        ("error", "sub-00", "images ['cta']"),
    ),
}


def unpacked(path):
    """The same file without gzip."""
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    return plain


class TestCheckedFolders:
    @pytest.mark.parametrize("name", CHECKED)
    def test_what_only_shows_beside_other_files_is_reported(self, tmp_path, name):
        make, (kind, file, words) = CHECKED[name]
        make(small_bids(tmp_path / "bids"))
        problems = [p for p in check(tmp_path / "bids").problems if p.file == file and words in p.found]
        assert [p.kind for p in problems] == [kind]
        assert problems[0].wanted
        assert problems[0].next_step

    def test_the_folder_itself_is_clean(self, tmp_path):
        assert check(small_bids(tmp_path / "bids")).problems == ()

    def test_uneven_slices_are_made_even_and_not_stacked(self, tmp_path):
        folder = dicom(tmp_path)
        for n, file in enumerate(sorted(folder.iterdir())):
            height = -20 + 4 * n
            old = element(file, b"\x20\x00\x32\x00", b"-60\\-55\\%d" % (height + 4 * max(0, n - 4)))
            assert [float(v) for v in old.split(b"\\")] == [-60, -55, height]
        volume = read_dicom(folder)
        assert volume.spacing[0] == pytest.approx(4.0, rel=0.01)
        assert (len(volume.array) - 1) * volume.spacing[0] == pytest.approx(40.0, rel=0.01)


PATIENT = b"Mustermann^Erika"


def with_patient(path):
    """A scan whose header names a patient wherever NIfTI has room for text."""
    image = nib.Nifti1Image(scan().array.transpose(2, 1, 0), LPS)
    image.set_sform(LPS, 1)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = PATIENT
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", PATIENT + b" 1957-03-02"))
    nib.save(image, path)
    return path


def holds(path, text):
    """Whether the bytes of a file, packed or not, hold a text in any case."""
    raw = path.read_bytes()
    raw += gzip.decompress(raw) if path.name.endswith(".gz") else b""
    return text.lower() in raw.lower()


class TestPatientData:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_nothing_written_names_the_patient_of_a_nifti_header(self, tmp_path, suffix):
        path = with_patient(tmp_path / f"in{suffix}")
        assert holds(path, PATIENT)
        volume = read_nifti(path)
        written = [
            write_nifti(volume, tmp_path / f"out{suffix}"),
            write_nifti_like(volume.with_array(volume.array > 0), path, tmp_path / f"mask{suffix}"),
            cases.save_case(cases.Case("c", "p", "aisd", "train", volume), tmp_path / "case.safetensors"),
        ]
        for file in written:
            assert not holds(file, b"Mustermann")
            assert not holds(file, b"1957")

    def test_nothing_written_names_the_patient_of_a_dicom_series(self, tmp_path):
        folder = dicom(tmp_path)
        for file in folder.iterdir():
            element(file, b"\x10\x00\x10\x00", PATIENT)
            assert holds(file, PATIENT)
        volume = read_dicom(folder)
        written = [
            write_nifti(volume, tmp_path / "out.nii"),
            cases.save_case(cases.Case("c", "p", "aisd", "train", volume), tmp_path / "case.safetensors"),
        ]
        assert not any(holds(file, b"Mustermann") for file in written)

    def test_no_report_of_a_check_names_the_patient_or_the_place(self, tmp_path):
        root = small_bids(tmp_path / "bids")
        with_patient(root / CT)
        cut(root / MASK, 100)
        report = check(root)
        assert report.errors
        for text in (report.as_text(), report.as_json(), json.dumps([vars(p) for p in report.problems])):
            assert "Mustermann" not in text
            assert str(tmp_path) not in text
