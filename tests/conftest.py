"""What all tests share: one torch thread, and run folders of their own."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TQDM_DISABLE"] = "1"

import pytest


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    """No test reads the user's settings or writes into the checkout's runs folder."""
    for name in ("PROFILE", "COHORT", "DATA"):
        monkeypatch.delenv(f"STROKELIB_{name}", raising=False)
    monkeypatch.setenv("STROKELIB_RUNS", str(tmp_path / "runs"))
