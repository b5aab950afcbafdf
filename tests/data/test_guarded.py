"""Reading in a child process: the same arrays, and an error in words whatever happens to the child."""

import gzip
import os
import sys
import tempfile
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from strokelib.data import guarded
from strokelib.data.guarded import kind_of, read_guarded, read_many
from strokelib.data.reading import read_dicom, read_nifti, write_nifti
from strokelib.data.series import read_series
from strokelib.data.shipped import head_ct_archive
from strokelib.errors import DataError, ParameterError

sys.path.insert(0, str(Path(__file__).parent))
import made_scans

AFFINE = np.array([[-0.45, 0.01, 0, 90], [0, -0.45, 0.1, 110], [0, 0, 1 / 3, -40], [0, 0, 0, 1.0]])
scan = partial(made_scans.scan, affine=AFFINE)
limited = pytest.mark.skipif(not guarded.LIMITS_MEMORY, reason="this system does not limit address space")


def header(shape, dtype):
    """The first 352 bytes of a NIfTI file."""
    made = nib.Nifti1Header()
    made.set_data_dtype(dtype)
    made.set_data_shape(shape)
    made.set_sform(AFFINE, 1)
    made["vox_offset"], made["magic"] = 352, b"n+1"
    return made.binaryblock + bytes(4)


def series_file(path):
    values = np.random.default_rng(1).integers(0, 90, (4, 5, 3, 6)).astype(np.int16)
    image = nib.Nifti1Image(values, AFFINE)
    image.set_sform(AFFINE, 1)
    image.header["pixdim"][4] = 1.7
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def bomb(path):
    """2**30 voxels of float64, as the header says, in a few MB: 256 gzip members of 32 MB of zeros each."""
    zeros = gzip.compress(bytes(2**25), 6)
    path.write_bytes(gzip.compress(header((1024, 1024, 1024), np.float64)) + zeros * 256)
    return path


@pytest.fixture
def misbehaving(tmp_path, monkeypatch):
    """Replace the child's reader of NIfTI files by one that does what the file's name says."""
    script = tmp_path / "child.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, subprocess, sys, time
            from strokelib.data import guarded
            whole = guarded._READERS["nifti"]
            def read(path, timeout_s, series):
                what = path.name.partition(".")[0]
                if what == "crash":
                    os.kill(os.getpid(), signal.SIGSEGV)
                if what == "exit":
                    os._exit(3)
                if what == "hang":
                    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                    path.with_suffix(".pid").write_text(str(started.pid))
                    time.sleep(60)
                if what == "greed":
                    return [bytearray(2**20) for _ in range(100_000)]
                if what == "bug":
                    raise KeyError(str(path))
                if what == "chatter":
                    print("a library's progress")
                    os.write(1, b"and its C part's")
                if what == "input":
                    assert sys.stdin.read() == ""
                if what == "place":
                    names = sorted(os.listdir("."))
                    secret = os.environ.get("SECRET_TOKEN")
                    raise KeyError(f"{names} {secret} {os.environ['HOME'] == os.getcwd()} {'torch' in sys.modules}")
                return whole(path, timeout_s, series)
            guarded._READERS["nifti"] = read
            guarded.main()
            """
        )
    )
    monkeypatch.setattr(guarded, "COMMAND", (sys.executable, "-P", str(script)))
    return lambda name: write_nifti(scan(), tmp_path / f"{name}.nii")


class TestTheSameResults:
    @pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
    def test_a_nifti_file_reads_bit_for_bit_as_it_does_directly(self, tmp_path, dtype):
        path = write_nifti(scan(dtype=dtype), tmp_path / "a.nii.gz")
        here, there = read_nifti(path), read_guarded(path)
        assert there.array.dtype == here.array.dtype
        np.testing.assert_array_equal(there.array, here.array)
        np.testing.assert_array_equal(there.affine, here.affine)

    def test_a_series_keeps_frames_time_step_and_place(self, tmp_path):
        path = series_file(tmp_path / "ctp.nii.gz")
        here, there = read_series(path), read_guarded(path)
        np.testing.assert_array_equal(there.array, here.array)
        np.testing.assert_array_equal(there.affine, here.affine)
        assert (there.step_s, there.step_known) == (here.step_s, here.step_known)

    def test_a_dicom_archive_reads_bit_for_bit_as_it_does_directly(self):
        here, there = read_dicom(head_ct_archive()), read_guarded(head_ct_archive())
        np.testing.assert_array_equal(there.array, here.array)
        np.testing.assert_array_equal(there.affine, here.affine)

    def test_a_refusal_says_the_same_as_that_of_the_reader(self, tmp_path):
        path = made_scans.cut(write_nifti(scan(), tmp_path / "a.nii.gz"), 150)
        (tmp_path / "folder").mkdir()
        for place, read in ((path, read_nifti), (tmp_path / "none.nii", read_nifti), (tmp_path / "folder", read_dicom)):
            with pytest.raises(DataError) as direct:
                read(place)
            with pytest.raises(DataError) as through_the_child:
                read_guarded(place)
            assert through_the_child.value.args == direct.value.args
            assert str(tmp_path) not in str(direct.value)

    def test_the_kind_may_be_stated_and_is_then_kept_to(self, tmp_path):
        path = series_file(tmp_path / "ctp.nii")
        assert read_guarded(path, kind="series").array.shape == (6, 3, 5, 4)
        with pytest.raises(DataError, match="4 axes"):
            read_guarded(path, kind="nifti")

    def test_the_kind_follows_from_the_name_and_the_header(self, tmp_path):
        assert kind_of(tmp_path) == "dicom"
        assert kind_of(tmp_path / "A.ZIP") == "dicom"
        assert kind_of(write_nifti(scan(), tmp_path / "a.nii.gz")) == "nifti"
        assert kind_of(series_file(tmp_path / "b.nii.gz")) == "series"
        (tmp_path / "c.nii.gz").write_bytes(b"\x1f\x8b no")
        assert kind_of(tmp_path / "c.nii.gz") == "nifti"

    def test_a_relative_path_is_taken_from_here_not_from_the_childs_folder(self, tmp_path, monkeypatch):
        write_nifti(scan(), tmp_path / "a.nii")
        monkeypatch.chdir(tmp_path)
        np.testing.assert_array_equal(read_guarded("a.nii").array, scan().array)


class TestLimits:
    @limited
    def test_a_bomb_of_8_gb_takes_no_more_memory_than_allowed(self, tmp_path):
        path = bomb(tmp_path / "bomb.nii.gz")
        assert path.stat().st_size < 2**24
        with pytest.raises(DataError, match=r"bomb\.nii\.gz: found .* for 8589934944"):
            read_guarded(path)
        plain = tmp_path / "sparse.nii"
        plain.write_bytes(header((1024, 1024, 1024), np.float64))
        os.truncate(plain, 352 + 2**33)
        with pytest.raises(DataError, match=r"sparse\.nii: found more than 1024 MB of memory needed"):
            read_guarded(plain, memory_mb=1024)

    @limited
    def test_the_childs_peak_stays_below_its_limit_while_a_bomb_goes_off(self, tmp_path):
        path = tmp_path / "bomb.nii.gz"  # 960 MB unpacked: below what the ratio refuses
        zeros = gzip.compress(bytes(2**25), 6)
        path.write_bytes(gzip.compress(header((480, 1024, 1024), np.int16)) + zeros * 30)
        peak, done = [0], threading.Event()

        def watch():
            while not done.wait(0.01):
                for child in psutil.Process().children(recursive=True):
                    try:
                        peak[0] = max(peak[0], child.memory_info().rss)
                    except psutil.Error:
                        continue

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            with pytest.raises(DataError, match="more than 512 MB of memory needed"):
                read_guarded(path, memory_mb=512)
        finally:
            done.set()
            thread.join()
        assert 2**20 < peak[0] < 512 * 2**20

    @limited
    def test_a_reader_that_takes_all_memory_becomes_an_error(self, misbehaving):
        with pytest.raises(DataError, match=r"greed\.nii: found more than 512 MB of memory needed"):
            read_guarded(misbehaving("greed"), memory_mb=512)

    @pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
    def test_a_reader_that_crashes_becomes_an_error_that_names_the_signal(self, misbehaving):
        with pytest.raises(
            DataError, match=r"crash\.nii: found the reader ended with signal 11 \(Segmentation fault.*\)"
        ) as refusal:
            read_guarded(misbehaving("crash"))
        assert refusal.value.wanted
        assert refusal.value.next_step

    def test_a_reader_that_ends_its_process_becomes_an_error(self, misbehaving):
        with pytest.raises(DataError, match=r"exit\.nii: found the reader ended with exit status 3"):
            read_guarded(misbehaving("exit"))

    def test_a_reader_that_hangs_is_ended_with_all_it_started(self, misbehaving):
        path, began = misbehaving("hang"), time.monotonic()
        with pytest.raises(DataError, match=r"hang\.nii: found no result after 1 s"):
            read_guarded(path, timeout_s=1)
        assert time.monotonic() - began < 20
        started = int(path.with_suffix(".pid").read_text())
        gone = time.monotonic() + 60
        while psutil.pid_exists(started) and psutil.Process(started).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < gone
            time.sleep(0.05)

    def test_an_exception_nobody_thought_of_is_an_error_without_the_path(self, misbehaving):
        path = misbehaving("bug")
        with pytest.raises(DataError, match=r"found KeyError: 'bug\.nii'") as refusal:
            read_guarded(path)
        assert str(path.parent) not in str(refusal.value)

    def test_limits_that_are_no_limits_and_unknown_kinds_are_refused(self, tmp_path):
        for wrong in ({"kind": "png"}, {"memory_mb": 0}, {"timeout_s": -1.0}):
            with pytest.raises(ParameterError):
                read_guarded(tmp_path / "a.nii", **wrong)

    @limited
    def test_a_child_that_cannot_start_says_so(self, tmp_path, monkeypatch):
        path = write_nifti(scan(), tmp_path / "a.nii")
        monkeypatch.setattr(guarded, "COMMAND", (sys.executable, "-P", "-c", "raise ImportError('no strokelib')"))
        with pytest.raises(DataError, match="did not start: ImportError: no strokelib"):
            read_guarded(path)


class TestTheChild:
    def test_what_a_library_prints_does_not_disturb_the_answer(self, misbehaving):
        np.testing.assert_array_equal(read_guarded(misbehaving("chatter")).array, scan().array)

    def test_a_reader_finds_no_input(self, misbehaving):
        np.testing.assert_array_equal(read_guarded(misbehaving("input")).array, scan().array)

    def test_it_works_in_an_empty_folder_without_the_environment_and_without_torch(self, misbehaving, monkeypatch):
        monkeypatch.setenv("SECRET_TOKEN", "hidden")
        with pytest.raises(DataError, match=r"\['stderr.txt'\] None True False"):
            read_guarded(misbehaving("place"))

    def test_nothing_is_left_behind(self, misbehaving, tmp_path, monkeypatch):
        own = tmp_path / "temporary"
        own.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(own))
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        read_guarded(misbehaving("good"))
        for name in ("crash", "bug"):
            with pytest.raises(DataError):
                read_guarded(misbehaving(name))
        assert not list(own.iterdir())
        assert {child.pid for child in psutil.Process().children(recursive=True)} <= before

    def test_it_reads_from_a_thread_too(self, tmp_path):
        path, results = write_nifti(scan(), tmp_path / "a.nii"), []
        thread = threading.Thread(target=lambda: results.append(read_guarded(path)))
        thread.start()
        thread.join()
        np.testing.assert_array_equal(results[0].array, scan().array)


class TestMany:
    def test_a_bad_file_ends_the_child_and_the_others_are_read(self, misbehaving):
        names = ["a", "crash", "b", "c", "bug", "exit", "d"]
        results = dict(read_many([misbehaving(name) for name in names]))
        assert [path.name for path in results] == [f"{name}.nii" for name in names]
        for path, result in results.items():
            if path.stem in ("crash", "bug", "exit"):
                assert isinstance(result, DataError)
                assert result.thing == path.name
            else:
                np.testing.assert_array_equal(result.array, scan().array)

    def test_one_child_serves_a_list_and_is_gone_afterwards(self, tmp_path, monkeypatch):
        started = []
        genuine = guarded.subprocess.Popen

        def counted(*args, **options):
            started.append(genuine(*args, **options))
            return started[-1]

        monkeypatch.setattr(guarded.subprocess, "Popen", counted)
        paths = [write_nifti(scan(n), tmp_path / f"{n}.nii") for n in range(40)]
        for n, (path, volume) in enumerate(read_many(paths)):
            assert path == paths[n]
            np.testing.assert_array_equal(volume.array, scan(n).array)
        assert len(started) == 1
        assert started[0].returncode is not None

    def test_leaving_the_loop_early_ends_the_child(self, tmp_path):
        before = {child.pid for child in psutil.Process().children()}
        results = read_many([write_nifti(scan(n), tmp_path / f"{n}.nii") for n in range(3)])
        next(results)
        assert {child.pid for child in psutil.Process().children()} > before
        results.close()
        assert {child.pid for child in psutil.Process().children()} == before

    def test_a_pause_between_two_files_longer_than_the_limit_does_no_harm(self, tmp_path, monkeypatch):
        monkeypatch.setattr(guarded, "_DYING_S", 0.0)
        paths = [write_nifti(scan(n), tmp_path / f"{n}.nii") for n in range(2)]
        results = read_many(paths, timeout_s=1)
        next(results)
        time.sleep(2.5)
        np.testing.assert_array_equal(next(results)[1].array, scan(1).array)

    def test_an_empty_list_starts_nothing(self, monkeypatch):
        monkeypatch.setattr(guarded, "COMMAND", ("/no/such/program",))
        assert list(read_many([])) == []


def test_only_the_standard_library_and_light_packages_are_loaded_by_the_child():
    code = "import sys, strokelib.data.guarded; print(*sys.modules)"
    done = guarded.subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "nibabel" in loaded
    assert not {"torch", "SimpleITK", "scipy.ndimage", "pandas", "matplotlib", "PIL"} & loaded
