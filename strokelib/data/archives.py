"""Unpacking of zip archives that nobody vouches for."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from strokelib.errors import DataError

MAX_MEMBERS = 20_000
MAX_BYTES = 8 * 2**30
MAX_RATIO = 200.0
_RATIO_FREE_BYTES = 2**20
_NEXT_STEP = "pack the plain scan files again, without links or folders above them"


def _check_name(archive: Path, name: str) -> None:
    """Refuse a member whose name could leave the target folder on any operating system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    parts = set(posix.parts) | set(windows.parts)
    if not name or "\0" in name or posix.is_absolute() or windows.drive or windows.root or ".." in parts:
        raise DataError(archive.name, found=f"member {name!r}", wanted="names inside the archive", next_step=_NEXT_STEP)


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(
            archive.name, found=f"link or device {member.filename!r}", wanted="plain files only", next_step=_NEXT_STEP
        )
    if member.flag_bits & 0x1:
        raise DataError(archive.name, found="an encrypted member", wanted="no password", next_step="unpack it yourself")
    ratio = member.file_size / max(member.compress_size, 1)
    if member.file_size > _RATIO_FREE_BYTES and ratio > MAX_RATIO:
        raise DataError(
            archive.name,
            found=f"{member.filename!r} grows {ratio:.0f} fold",
            wanted=f"at most {MAX_RATIO:.0f} fold",
            next_step="check where the archive comes from",
        )


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> list[Path]:
    """Unpack a zip archive into a folder; nothing is written before every member has been checked.

    Refused are names that leave the folder (absolute, with ``..`` or a drive letter), links and devices, encrypted
    members, names that differ in case only, more than ``MAX_MEMBERS`` files, more than ``MAX_BYTES`` bytes, and
    members that grow more than ``MAX_RATIO`` fold.

    Args:
        archive: The zip file.
        folder: An existing folder, best a fresh temporary one.

    Returns:
        The files written.

    Raises:
        DataError: The archive is no zip file, is damaged, or holds one of the things above.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            total = sum(member.file_size for member in members)
            if len(members) > MAX_MEMBERS or total > MAX_BYTES:
                raise DataError(
                    archive.name,
                    found=f"{len(members)} members, {total} bytes unpacked",
                    wanted=f"at most {MAX_MEMBERS} members and {MAX_BYTES} bytes",
                    next_step="keep one series in the archive",
                )
            for member in members:
                _check_name(archive, member.filename)
                _check_member(archive, member)
            names = [member.filename.casefold() for member in members]
            if len(set(names)) < len(names):
                found, wanted = "two members of one name", "distinct names"
                raise DataError(archive.name, found=found, wanted=wanted, next_step=_NEXT_STEP)
            return [_extract(file, member, folder) for member in members if not member.is_dir()]
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        found = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        raise DataError(archive.name, found=found, wanted="an intact zip archive", next_step="copy it again") from error


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    """Write one checked member; reading stops at the size the archive declared."""
    target = folder.joinpath(*PurePosixPath(member.filename).parts)
    root, place = os.path.realpath(folder), os.path.realpath(target)
    if os.path.commonpath([root, place]) != root:
        raise DataError(member.filename, found="a place outside", wanted="the folder", next_step=_NEXT_STEP)
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open(member) as source, open(target, "xb") as sink:
        shutil.copyfileobj(source, sink)
    return target
