"""AISD's PNG masks land on the CT as it is read, also where the gantry was tilted and the slices are uneven."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from strokelib.data.aisd import aisd_labels, aisd_labels_report, lesion_of, nearest_pixels, read_pictures, read_slices
from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, crop, sample_on
from strokelib.data.phantom import embedded
from strokelib.data.reading import read_dicom_report
from strokelib.errors import DataError, ParameterError

sys.path.insert(0, str(Path(__file__).parent))
import archives

TILTED_CASE = "aisd-0149"
UID = "1.2.826.0.1.3680043.2.1125.7"


def write_series(image, affine, folder, tilt_deg, heights_mm=None):
    """One DICOM series: slice z has its first pixel at affine @ (0, 0, z), or at another height along the table."""
    folder.mkdir(parents=True)
    turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    dx, dy, dz = (float(np.linalg.norm(turned[:3, n])) for n in range(3))
    row, column = turned[:3, 0] / dx, turned[:3, 1] / dy
    for z, plane in enumerate(image):
        place = turned @ np.array([0, 0, z, 1.0])
        place[2] += 0.0 if heights_mm is None else heights_mm[z] - z * dz
        picture = sitk.GetImageFromArray(plane[None].astype(np.int16))
        picture.SetSpacing((dx, dy, dz))
        picture.SetOrigin([float(v) for v in place[:3]])
        picture.SetDirection(np.stack([row, column, np.cross(row, column)], axis=1).ravel().tolist())
        tags = {
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0008|0018": f"{UID}.{z + 1}",
            "0008|0020": "20200101",
            "0008|0030": "120000",
            "0008|0060": "CT",
            "0018|0050": f"{dz:g}",
            "0018|1120": f"{tilt_deg:g}",
            "0020|000d": f"{UID}.100",
            "0020|000e": f"{UID}.200",
            "0020|0011": "2",
            "0020|0013": str(z + 1),
        }
        for tag, value in tags.items():
            picture.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{len(image) - z:03d}.dcm"))  # names say nothing about places
        writer.Execute(picture)
    return folder


def write_masks(labels, folder):
    """One grey PNG a slice."""
    folder.mkdir(parents=True)
    for z, plane in enumerate(labels):
        Image.fromarray(plane.astype(np.uint8)).save(folder / f"{z:03d}.png")
    (folder / "._000.png").write_bytes(b"what another system leaves")
    return folder


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def smooth_truth(case, volume):
    """The upright head's lesion on another grid; linear between slices of 5 mm, which would else be stairs."""
    return sample_on(Volume(case.lesion.astype(np.float32), case.image.affine), Grid.of(volume), fill=0.0).array > 0.5


@pytest.fixture(scope="module")
def upright():
    """The head on an upright grid of 5 x 1.2 x 1.2 mm."""
    return embedded.render(TILTED_CASE, "published")


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The same head as scanned: 18.4 degrees of tilt, 512 pixels; cropped to the head; masks and volume as read."""
    case = embedded.render(TILTED_CASE, "native")
    box = (slice(2, 26), slice(24, 488), slice(64, 448))
    image = crop(case.image, box)
    root = tmp_path_factory.mktemp("native")
    tilt_deg = embedded.plan(TILTED_CASE).pose.gantry_deg
    folder = write_series(image.array, image.affine, root / "CT", tilt_deg)
    masks = write_masks(np.where(case.lesion[box], 2, 0), root / "mask")
    volume, report = read_dicom_report(folder)
    return Volume(case.lesion[box], image.affine), folder, masks, volume, report, tilt_deg


def tilted(case, tilt_deg, slices=20, pixel_mm=0.8):
    """Image and lesion of an upright head where a gantry tilted by so much would put them."""
    a, (height, width) = np.radians(tilt_deg), (272, 208)
    linear = np.array([[-pixel_mm, 0, 0], [0, -pixel_mm * np.cos(a), 0], [0, -pixel_mm * np.sin(a), 5.0]])
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ (np.array([width - 1, height - 1, slices - 1]) / 2)
    grid = Grid((slices, height, width), affine)
    return sample_on(case.image, grid), sample_on(Volume(case.lesion, case.image.affine), grid, order=0)


class TestTilt:
    def test_a_native_scan_of_18_degrees_keeps_its_lesion(self, native, upright):
        lesion, folder, masks, volume, report, tilt_deg = native
        assert "tilt undone" in report["why"]
        labels, said = aisd_labels_report(masks, folder, volume)
        truth = sample_on(lesion, Grid.of(volume), order=0).array
        assert dice(lesion_of(labels), truth) > 0.97
        assert dice(lesion_of(labels), smooth_truth(upright, volume)) > 0.9
        assert said["tilt_deg"] == pytest.approx(abs(tilt_deg), abs=0.01)
        assert said["difference_hu"] < 2
        assert said["volume_ml"][2] == pytest.approx(lesion.array.sum() * lesion.voxel_ml, rel=0.02)

    @pytest.mark.parametrize("tilt_deg", [20.0, -20.0])
    def test_twenty_degrees_either_way_are_undone_for_the_masks_too(self, upright, tmp_path, tilt_deg):
        image, lesion = tilted(upright, tilt_deg)
        folder = write_series(image.array, image.affine, tmp_path / "CT", tilt_deg)
        masks = write_masks(np.where(lesion.array, 1, 0), tmp_path / "mask")
        volume, report = read_dicom_report(folder)
        assert "tilt undone" in report["why"]
        truth = smooth_truth(upright, volume)
        labels, said = aisd_labels_report(masks, folder, volume)
        assert dice(labels == 1, truth) > 0.9
        assert said["tilt_deg"] == pytest.approx(20, abs=0.01)
        stacked = np.zeros(volume.array.shape, bool)
        stacked[: len(lesion.array), : lesion.array.shape[1], : lesion.array.shape[2]] = lesion.array
        assert dice(stacked, truth) < 0.8, "without the shear the masks would lie elsewhere"

    def test_slices_that_were_made_even_take_the_nearest_mask(self, upright, tmp_path):
        image, lesion = tilted(upright, 0.0)
        heights = np.cumsum([0, *[5.0] * 8, *[7.5] * 11])
        folder = write_series(image.array, image.affine, tmp_path / "CT", 0.0, heights)
        masks = write_masks(np.where(lesion.array, 5, 0), tmp_path / "mask")
        volume, report = read_dicom_report(folder)
        assert "made even" in report["why"]
        labels, said = aisd_labels_report(masks, folder, volume)
        assert len(labels) > len(lesion.array)
        assert said["tilt_deg"] == pytest.approx(0, abs=1e-3)
        thickness = np.gradient(heights)
        drawn_ml = (lesion.array.sum(axis=(1, 2)) * thickness).sum() * 0.8 * 0.8 / 1000
        assert said["volume_ml"][5] == pytest.approx(drawn_ml, rel=0.1)

    def test_an_upright_series_in_the_data_sets_own_layout_keeps_every_pixel(self, tmp_path):
        root = archives.write_aisd(tmp_path, ids=("0019983",))
        folder, masks = root / "dicom-0" / "0019983" / "CT", root / "mask" / "0019983"
        labels, said = aisd_labels_report(masks, folder, read_dicom_report(folder)[0])
        np.testing.assert_array_equal(labels, read_pictures(masks))
        assert said["difference_hu"] == 0
        assert set(np.unique(labels)) == {0, 2, 5}


class TestPlaces:
    def test_every_pixel_is_found_at_its_own_place(self, native):
        folder, masks = native[1:3]
        slices = read_slices(folder, len(read_pictures(masks)))
        assert np.all(np.diff(slices.heights) > 0)
        place = np.eye(4)
        place[:3, 0], place[:3, 1] = slices.row * slices.pixel_mm[1], slices.column * slices.pixel_mm[0]
        place[:3, 2], place[:3, 3] = slices.normal, slices.origins[7]
        alone = Volume(np.zeros((1, *slices.shape)), np.diag([-1.0, -1.0, 1.0, 1.0]) @ place)
        pixels = slices.shape[0] * slices.shape[1]
        np.testing.assert_array_equal(nearest_pixels(slices, alone).ravel(), 7 * pixels + np.arange(pixels))

    def test_nothing_is_taken_from_beyond_the_field(self, native):
        _, folder, _masks, volume, *_ = native
        slices = read_slices(folder, len(list(folder.iterdir())))
        for shift in ((0, 0, 400.0), (0, 0, -400.0), (400.0, 0, 0), (0, 400.0, 0)):
            away = volume.affine.copy()
            away[:3, 3] += shift
            assert (nearest_pixels(slices, Volume(volume.array[:2], away)) == -1).all()


class TestReport:
    def test_each_label_is_counted_and_the_mri_only_one_apart(self, native, tmp_path):
        lesion, folder, _masks, volume, *_ = native
        labels = np.zeros(lesion.array.shape, np.uint8)
        labels[5, 100:140, 100:140], labels[9, 200:220, 150:170], labels[12, 60:70, 200:210] = 1, 4, 3
        found, said = aisd_labels_report(write_masks(labels, tmp_path / "mask"), folder, volume)
        for label, count in ((1, 1600), (4, 400), (3, 100), (2, 0), (5, 0)):
            assert said["volume_ml"][label] == pytest.approx(count * lesion.voxel_ml, rel=0.03)
        assert said["mri_only_ml"] == said["volume_ml"][4]
        assert lesion_of(found).sum() == np.isin(found, (1, 2, 3, 5)).sum()
        assert lesion_of(found, "every non-zero").sum() == (found > 0).sum() > lesion_of(found).sum()

    def test_masks_in_the_reverse_order_are_noted(self, native, tmp_path):
        lesion, folder, _masks, volume, *_ = native
        labels = np.zeros(lesion.array.shape, np.uint8)
        labels[:6] = 5 * ((lesion.array[:6] >= 0) & (sample_tissue(folder, 6)))
        right = aisd_labels_report(write_masks(labels, tmp_path / "right"), folder, volume)[1]
        wrong = aisd_labels_report(write_masks(labels[::-1], tmp_path / "wrong"), folder, volume)[1]
        assert right["notes"] == []
        assert right["order"] == wrong["order"] == "000.png is the lowest slice"
        assert wrong["share_tissue_reversed"] == pytest.approx(right["share_tissue"])
        (note,) = wrong["notes"]
        assert "in reverse" in note["found"]
        assert "reverse order" in note["next_step"]
        assert json.loads(json.dumps(wrong))["notes"] == [note], "the report can be saved with a case"

    def test_masks_without_a_label_give_no_share_and_no_note(self, native, tmp_path):
        lesion, folder, _masks, volume, *_ = native
        empty = write_masks(np.zeros(lesion.array.shape), tmp_path / "mask")
        labels, said = aisd_labels_report(empty, folder, volume)
        assert not labels.any()
        assert said["share_tissue"] is None
        assert said["notes"] == []

    def test_the_labels_alone_are_those_of_the_report(self, native):
        _, folder, masks, volume, *_ = native
        labels = aisd_labels(masks, folder, volume)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, aisd_labels_report(masks, folder, volume)[0])


def sample_tissue(folder, count):
    """(count, H, W) bool: soft tissue on the lowest slices as written."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))[:count]
    planes = np.stack([sitk.GetArrayFromImage(sitk.ReadImage(name))[0] for name in names])
    return (planes > 0) & (planes < 80)


class TestRefusals:
    @pytest.fixture
    def masks(self, native, tmp_path):
        return write_masks(np.zeros(native[0].array.shape), tmp_path / "mask")

    def refused(self, masks, native, words, volume=None):
        with pytest.raises(DataError, match=words) as refusal:
            aisd_labels(masks, native[1], native[3] if volume is None else volume)
        assert refusal.value.wanted
        assert refusal.value.next_step
        assert str(Path(masks).parent) not in str(refusal.value)

    def test_another_number_of_masks_than_slices(self, masks, native):
        (masks / "023.png").unlink()
        self.refused(masks, native, "series of 24 images; wanted one of 23 images")

    def test_a_gap_in_the_numbers(self, masks, native):
        (masks / "011.png").rename(masks / "024.png")
        self.refused(masks, native, "24 PNG files; wanted 000.png")

    def test_no_masks_at_all(self, native, tmp_path):
        (tmp_path / "mask").mkdir()
        self.refused(tmp_path / "mask", native, "0 PNG files")

    def test_a_damaged_picture(self, masks, native):
        whole = (masks / "004.png").read_bytes()
        (masks / "004.png").write_bytes(whole[: len(whole) // 2])
        self.refused(masks, native, r"004\.png: found .*; wanted an intact PNG")

    def test_grey_values_of_an_image_and_colours(self, masks, native):
        Image.fromarray(np.full(native[0].array.shape[1:], 128, np.uint8)).save(masks / "004.png")
        self.refused(masks, native, "values up to 128")
        Image.fromarray(np.zeros((*native[0].array.shape[1:], 3), np.uint8)).save(masks / "004.png")
        self.refused(masks, native, "mode RGB")

    def test_masks_of_another_size(self, native, tmp_path):
        other = write_masks(np.zeros((24, 10, 10)), tmp_path / "mask")
        self.refused(other, native, r"pictures of \(10, 10\); wanted \(464, 384\)")

    def test_the_volume_of_another_series(self, masks, native):
        volume = native[3]
        self.refused(masks, native, "differs from the slices", Volume(volume.array[:, ::-1, :], volume.affine))
        away = volume.affine.copy()
        away[2, 3] += 1000
        self.refused(masks, native, "differs from the slices by nan", Volume(volume.array, away))

    def test_a_slice_that_is_no_dicom(self, native, masks, tmp_path):
        folder = tmp_path / "CT"
        folder.mkdir()
        (folder / "001.dcm").write_bytes(b"nothing")
        with pytest.raises(DataError, match="series of no images"):
            aisd_labels(masks, folder, native[3])

    def test_policies_and_labels_that_are_none(self):
        with pytest.raises(ParameterError, match="official or every non-zero"):
            lesion_of(np.zeros((2, 2), np.uint8), "all")
        with pytest.raises(DataError, match="0 to 5"):
            lesion_of(np.array([0, 6]))
