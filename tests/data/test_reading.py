"""Reading: files that are whole come in exactly; those that are not stand in test_damaged_files.py."""

import gzip
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokelib.data import dicom
from strokelib.data.archives import unpack
from strokelib.data.cases import Volume
from strokelib.data.dicom import choose
from strokelib.data.reading import read_dicom, read_dicom_report, read_nifti, write_nifti
from strokelib.data.shipped import head_ct_archive
from strokelib.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
from made_scans import LPS, cut, patched, save, scan


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_values_type_and_place_come_back_exactly(self, tmp_path, dtype, suffix):
        volume = scan(dtype=dtype)
        back = read_nifti(write_nifti(volume, tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(back.array, volume.array)
        assert back.array.dtype == dtype
        np.testing.assert_array_equal(back.affine, volume.affine)

    def test_a_mask_comes_back_as_bytes(self, tmp_path):
        mask = scan().array > 0
        back = read_nifti(write_nifti(Volume(mask, LPS), tmp_path / "m.nii.gz"))
        np.testing.assert_array_equal(back.array, mask.astype(np.uint8))

    def test_the_same_volume_gives_the_same_bytes_and_no_free_text(self, tmp_path):
        first, second = (write_nifti(scan(), tmp_path / name) for name in ("patient_name.nii.gz", "b.nii.gz"))
        assert first.read_bytes() == second.read_bytes()
        raw = gzip.decompress(first.read_bytes())
        assert not any(raw[148:252]), "descrip and aux_file"
        assert not any(raw[4:32]), "data_type and db_name"
        assert not any(raw[328:344]), "intent_name"
        assert b"patient" not in raw

    def test_a_failed_write_leaves_the_old_file_alone(self, tmp_path, monkeypatch):
        path = write_nifti(scan(), tmp_path / "a.nii")
        before = path.read_bytes()

        def broken(self, data):
            raise OSError("disk full")

        monkeypatch.setattr(Path, "write_bytes", broken)
        with pytest.raises(OSError, match="disk full"):
            write_nifti(scan(1), path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]

    def test_what_nifti_cannot_hold_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="32 bits"):
            write_nifti(Volume(np.full((2, 2, 2), 2**40), LPS), tmp_path / "a.nii")
        with pytest.raises(DataError, match=r"a\.txt"):
            write_nifti(scan(), tmp_path / "a.txt")
        with pytest.raises(DataError, match="axes"):
            write_nifti(Volume(np.zeros((2, 2)), LPS), tmp_path / "a.nii")


class TestOrientation:
    @pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SLA", "IPL", "ARS"])
    def test_markers_land_at_the_patients_left_posterior_and_superior(self, tmp_path, codes):
        reference = scan(shape=(6, 8, 10))
        marked = reference.array.copy()
        marked[1, 2, 8], marked[1, 6, 3], marked[5, 2, 3] = 2001, 2002, 2003  # left, posterior, superior
        image = nib.Nifti1Image(marked.transpose(2, 1, 0), reference.affine)
        turn = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        nib.save(image.as_reoriented(turn), tmp_path / "a.nii")
        volume = read_nifti(tmp_path / "a.nii")
        np.testing.assert_array_equal(volume.array, marked)
        np.testing.assert_allclose(volume.affine, reference.affine, atol=1e-5)
        left, right = (volume.affine @ [x, 2, 1, 1] for x in (8, 3))
        assert left[0] < right[0], "RAS x falls towards the patient's left"

    @pytest.mark.parametrize("angle_deg", [18.5, -30.0])
    def test_oblique_scans_keep_every_voxels_place(self, tmp_path, angle_deg):
        a = np.radians(angle_deg)
        turn = np.array([[1, 0, 0, 3], [0, np.cos(a), -np.sin(a), 5], [0, np.sin(a), np.cos(a), 7], [0, 0, 0, 1]])
        affine = turn @ np.diag([0.5, 0.6, 3.0, 1.0])
        array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
        volume = read_nifti(save(tmp_path / "a.nii", array, affine))
        assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
        for index in ((0, 0, 0), (3, 1, 5), (2, 4, 0)):
            z, y, x = np.argwhere(volume.array == array[index])[0]
            np.testing.assert_allclose(volume.affine @ [x, y, z, 1], affine @ [*index, 1], atol=1e-5)

    def test_a_sheared_scan_is_read_and_written(self, tmp_path):
        affine = LPS.copy()
        affine[1, 2] = 1.3
        volume = read_nifti(write_nifti(Volume(scan().array, affine), tmp_path / "a.nii"))
        np.testing.assert_allclose(volume.affine, affine, atol=1e-6)

    def test_scaled_integers_become_float32_and_a_trailing_axis_of_one_goes(self, tmp_path):
        path = save(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1), LPS)
        volume = read_nifti(patched(path, 112, np.float32([2.0, -1024.0]).tobytes()))
        assert volume.array.dtype == np.float32
        assert volume.array.shape == (5, 4, 3)
        assert (volume.array.min(), volume.array.max()) == (-1024, 2 * 59 - 1024)

    def test_big_endian_files_come_in_the_machines_order(self, tmp_path):
        array = scan().array.transpose(2, 1, 0)
        image = nib.Nifti1Image(array, LPS, nib.Nifti1Header(endianness=">"))
        image.set_data_dtype(np.int16)
        nib.save(image, tmp_path / "a.nii")
        volume = read_nifti(tmp_path / "a.nii")
        assert volume.array.dtype.isnative
        np.testing.assert_array_equal(volume.array, scan().array)


class TestUnplaced:
    def test_a_file_without_orientation_is_read_on_request(self, tmp_path):
        path = patched(write_nifti(scan(), tmp_path / "a.nii"), 252, bytes(4))
        assert read_nifti(path, allow_unplaced=True).array.shape == scan().array.shape


def make_zip(path, names, data=b"abc"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, data)
    return path


class TestArchives:
    @pytest.mark.parametrize(
        "name",
        [
            "../out.dcm",
            "a/../../out.dcm",
            "/etc/out.dcm",
            "..\\out.dcm",
            "C:\\out.dcm",
            "C:out.dcm",
            "\\\\host\\out.dcm",
        ],
    )
    def test_names_that_leave_the_folder_are_refused_before_anything_is_written(self, tmp_path, name):
        target = tmp_path / "in" / "target"
        target.mkdir(parents=True)
        archive = make_zip(tmp_path / "a.zip", ["good.dcm", name])
        with pytest.raises(DataError, match="inside the archive"):
            unpack(archive, target)
        assert not list(target.iterdir())
        assert not list(tmp_path.rglob("out.dcm"))

    def test_links_are_refused(self, tmp_path):
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr(link, "/etc/passwd")
        with pytest.raises(DataError, match="link or device"):
            unpack(tmp_path / "a.zip", tmp_path)

    def test_bombs_crowds_and_twins_are_refused(self, tmp_path, monkeypatch):
        with pytest.raises(DataError, match="grows"):
            unpack(make_zip(tmp_path / "a.zip", ["big"], bytes(8 * 2**20)), tmp_path)
        with pytest.raises(DataError, match="two members"):
            unpack(make_zip(tmp_path / "b.zip", ["a.dcm", "A.DCM"]), tmp_path)
        monkeypatch.setattr("strokelib.data.archives.MAX_MEMBERS", 2)
        with pytest.raises(DataError, match="3 members"):
            unpack(make_zip(tmp_path / "c.zip", ["1", "2", "3"]), tmp_path)

    def test_damage_is_named(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", ["x"], np.random.default_rng(0).bytes(4000))
        patched(path, 1000, b"\0\1\2\3\4\5\6\7")
        with pytest.raises(DataError, match="intact zip"):
            unpack(path, tmp_path)
        with pytest.raises(DataError, match="intact zip"):
            unpack(cut(path, 500), tmp_path)

    def test_a_good_archive_is_unpacked_with_its_folders(self, tmp_path):
        (tmp_path / "t").mkdir()
        files = unpack(make_zip(tmp_path / "a.zip", ["s/1.dcm", "s/2.dcm"]), tmp_path / "t")
        assert sorted(p.relative_to(tmp_path / "t").as_posix() for p in files) == ["s/1.dcm", "s/2.dcm"]
        assert files[0].read_bytes() == b"abc"


class TestDicom:
    @pytest.fixture(scope="class")
    def head_ct(self):
        return read_dicom_report(head_ct_archive())

    def test_tilt_and_uneven_slices_of_the_real_head_are_undone_and_said(self, head_ct):
        volume, report = head_ct
        assert report["tilt_deg"] == 18.5
        assert report["uneven_slices"]
        assert "tilt undone" in report["why"]
        assert "made even" in report["why"]
        axes = volume.affine[:3, :3] / np.array(volume.spacing[::-1])
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-4)
        assert volume.array.shape == (34, 581, 512)

    def test_the_real_head_keeps_its_height_and_pixel_size(self, head_ct):
        volume, _ = head_ct
        # First and last of the 17 slices are 105.52 mm apart along the table, tilted by 18.5 degrees.
        assert (volume.array.shape[0] - 1) * volume.spacing[0] == pytest.approx(
            105.52 * np.cos(np.radians(18.5)), abs=0.02
        )
        assert volume.spacing[1:] == pytest.approx((0.48828, 0.48828), abs=1e-4)

    def test_the_real_head_is_in_hu_with_air_outside_the_field(self, head_ct):
        volume, _ = head_ct
        assert volume.array.min() == -1024
        middle = volume.array[15, 200:380, 180:330]
        assert 20 < np.median(middle) < 45

    def test_a_folder_reads_as_its_archive_does(self, head_ct, tmp_path):
        unpack(head_ct_archive(), tmp_path)
        np.testing.assert_array_equal(read_dicom(tmp_path).array, head_ct[0].array)

    def test_nothing_is_left_behind(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        read_dicom(head_ct_archive())
        assert not list(tmp_path.iterdir())

    def test_a_folder_without_images_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("nothing here")
        with pytest.raises(DataError, match="DICOM slices"):
            read_dicom(tmp_path)
        with pytest.raises(DataError, match="nothing there"):
            read_dicom(tmp_path / "none")

    def test_a_converter_that_hangs_is_stopped(self, tmp_path, monkeypatch):
        slow = tmp_path / "slow"
        slow.write_text("#!/bin/sh\nexec sleep 30\n")
        slow.chmod(0o755)
        monkeypatch.setattr(dicom, "_executable", lambda: str(slow))
        with pytest.raises(DataError, match="no result after"):
            read_dicom(head_ct_archive(), timeout_s=0.3)

    def test_of_one_series_the_most_corrected_file_is_taken(self, tmp_path):
        files = [tmp_path / n for n in ("s2.nii", "s2_Eq_1.nii", "s2_Tilt_1.nii", "s2_Tilt_Eq_1.nii")]
        assert choose(files)[0].name == "s2_Tilt_Eq_1.nii"
        assert choose(files[:3])[0].name == "s2_Tilt_1.nii"
        assert choose(files[:1]) == (files[0], "series 2: neither tilted nor uneven, taken as scanned")

    def test_several_series_need_a_choice_and_scouts_do_not_count(self, tmp_path):
        files = [tmp_path / n for n in ("s1.nii", "s2.nii", "s3.nii")]
        (tmp_path / "s1.json").write_text('{"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}')
        with pytest.raises(DataError, match="found 2, 3"):
            choose(files)
        assert choose(files, series=3)[0].name == "s3.nii"
        (tmp_path / "s3.json").write_text('{"Modality": "MR"}')
        assert choose(files)[0].name == "s2.nii"

    def test_the_converter_runs_without_a_shell(self, tmp_path, monkeypatch):
        seen = []
        genuine = subprocess.run

        def spy(command, **options):
            seen.append((command, options))
            return genuine(command, **options)

        monkeypatch.setattr(subprocess, "run", spy)
        odd = tmp_path / "a; touch pwned"
        odd.mkdir()
        with pytest.raises(DataError):
            read_dicom(odd)
        assert isinstance(seen[0][0], list)
        assert not seen[0][1].get("shell")
