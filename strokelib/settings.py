"""Where data, runs and figures live, and how long and on what a notebook works (profile and cohort)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from strokelib.errors import ParameterError

ENV_PREFIX = "STROKELIB_"
COHORTS = ("aisd", "xwhd", "apis", "icoais", "center_tbi", "isles2018")
DEFAULT_COHORT = "aisd"


class Profile(StrEnum):
    """How long a run takes: ``smoke`` (minutes, numbers mean nothing), ``demo`` (a laptop), ``paper`` (a GPU)."""

    SMOKE = "smoke"
    DEMO = "demo"
    PAPER = "paper"


@dataclass(frozen=True)
class Settings:
    """The resolved answer to "how long, on what, from where, to where"."""

    profile: Profile
    cohort: str
    seed: int
    data: Path | None
    runs: Path
    figures: Path

    @property
    def work(self) -> Path:
        """Folder of this profile, cohort and data below ``runs/``; no two choices share one."""
        name = self.cohort
        if self.data is not None:
            name += "-" + hashlib.sha256(os.fspath(self.data).encode()).hexdigest()[:8]
        return self.runs / self.profile.value / name

    def beside(self, cohort: str) -> Settings:
        """The same run for one cohort: its own, or an embedded one beside it, with which no data of the user go."""
        if cohort == self.cohort:
            return self
        return replace(self, cohort=_checked("cohort", cohort, COHORTS, "give one of these"), data=None)

    def embedded_unless(self, cohort: str) -> str:
        """The embedded cohort that a notebook about one cohort stands on, as :func:`strokelib.repro.start` takes it.

        Empty where the run is about that cohort anyway; then its own scans are used, where there are any.
        """
        return "" if cohort == self.cohort else _checked("cohort", cohort, COHORTS, "give one of these")

    @property
    def source(self) -> str:
        """Where the cases come from, in words: a result says so wherever it is printed."""
        return "embedded" if self.data is None else "given by the user"

    def describe(self) -> str:
        """One line without any path of this machine, for notebook outputs."""
        source = "embedded data" if self.data is None else "data given by the user"
        return f"profile {self.profile.value}, cohort {self.cohort} ({source}), seed {self.seed}"


def project_root() -> Path:
    """The checkout this package was installed from (editable), or the current folder for an installed copy."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "data_manifests").is_dir() else Path.cwd()


def manifests_dir() -> Path:
    """Folder of the ledgers."""
    return project_root() / "data_manifests"


def assets_dir() -> Path:
    """Folder of the shipped real data."""
    return Path(__file__).resolve().parent / "assets"


def runs_dir() -> Path:
    """Folder for everything a run writes; ``STROKELIB_RUNS`` overrides it."""
    return Path(os.environ.get(ENV_PREFIX + "RUNS") or project_root() / "runs").absolute()


def _checked(name: str, value: object, allowed: tuple[str, ...], next_step: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ParameterError(f"parameter {name}", found=repr(value), wanted=" or ".join(allowed), next_step=next_step)
    return value


def resolve(profile: str = "", cohort: str = "", seed: int = 0, data: str | os.PathLike | None = None) -> Settings:
    """Resolve a notebook's parameters: an explicit value wins, then the environment, then the default.

    Args:
        profile: ``smoke``, ``demo``, ``paper`` or empty (``STROKELIB_PROFILE``, then demo).
        cohort: A cohort's key or empty (``STROKELIB_COHORT``, then aisd).
        seed: Non-negative whole number.
        data: Folder of real scans, or None (``STROKELIB_DATA``, then the embedded data).

    Raises:
        ParameterError: A value is of the wrong type or not among those allowed; nothing falls back silently.
    """
    profile = profile or os.environ.get(ENV_PREFIX + "PROFILE") or Profile.DEMO.value
    cohort = cohort or os.environ.get(ENV_PREFIX + "COHORT") or DEFAULT_COHORT
    _checked("profile", profile, tuple(p.value for p in Profile), "give PROFILE=smoke, demo or paper")
    _checked("cohort", cohort, COHORTS, "data_manifests/cohorts.csv lists the cohorts")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError("parameter seed", found=repr(seed), wanted="a whole number >= 0", next_step="give seed=0")
    data = data or os.environ.get(ENV_PREFIX + "DATA") or None
    folder = None
    if data is not None:
        folder = Path(data).absolute()
        if not folder.is_dir():
            raise ParameterError(
                "DATA", found=f"{data} (no such folder)", wanted="a folder of scans", next_step="check it"
            )
    return Settings(Profile(profile), cohort, seed, folder, runs_dir(), project_root() / "figures")
