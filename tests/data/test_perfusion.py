"""Deconvolution against a literal loop over voxels, known flow, and what the block-circulant form promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strokelib.data import perfusion
from strokelib.errors import DataError, ParameterError

STEP_S, FRAMES = 1.0, 40
TIMES = np.arange(FRAMES) * STEP_S


def artery():
    """A gamma variate that arrives at 5 s."""
    t = np.clip(TIMES - 5, 0, None)
    return 300 * (t / 6) ** 3 * np.exp(-3 * (t / 6 - 1)) * (t > 0)


def tissue(cbf, mtt_s, delay_s=0.0, fine=20, aif=artery):
    """Tissue enhancement of an exponential residue, convolved finer than it is sampled; cbf in mL / 100 g / min."""
    t = np.arange(FRAMES * fine) * STEP_S / fine
    inflow = np.interp(t - delay_s, TIMES, aif(), left=0.0)
    factor = (1 - 0.45) / (1 - 0.25) / perfusion.BRAIN_DENSITY
    residue = cbf / (6000 * factor) * np.exp(-t / mtt_s)
    return np.convolve(inflow, residue)[: len(t) : fine] * STEP_S / fine


def curves(count=12, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = [tissue(rng.uniform(8, 70), rng.uniform(3, 10), rng.uniform(0, 6)) for _ in range(count)]
    return np.array(rows) + noise * rng.normal(size=(count, FRAMES))


def circulant(aif):
    length = 2 * len(aif)
    padded = np.concatenate((aif, np.zeros(len(aif))))
    return STEP_S * np.array([[padded[(i - j) % length] for j in range(length)] for i in range(length)])


def by_svd(curve, aif, rank_out):
    """Pseudo-inverse without the ``rank_out`` smallest singular values."""
    u, s, vt = np.linalg.svd(circulant(aif))
    inverse = np.where(np.arange(len(s)) < len(s) - rank_out, 1 / np.maximum(s, 1e-12), 0)
    return vt.T @ (inverse * (u.T @ np.concatenate((curve, np.zeros(len(curve))))))


def oscillation(f):
    return sum(abs(f[k] - 2 * f[k - 1] + f[k - 2]) for k in range(2, len(f))) / (len(f) * max(f.max(), 1e-12))


def test_csvd_equals_the_truncated_svd_of_the_circulant_matrix_voxel_by_voxel():
    aif, rows = artery(), curves()
    s = np.linalg.svd(circulant(aif), compute_uv=False)
    out = int((s < 0.1 * s[0]).sum())
    found = perfusion.deconvolve(torch.tensor(rows), torch.tensor(aif), STEP_S, "csvd", threshold=0.1)
    expected = np.array([by_svd(row, aif, out) for row in rows])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8 * np.abs(expected).max())


def test_osvd_leaves_out_one_more_value_until_the_residue_is_quiet_enough():
    aif, rows = artery(), curves(noise=4.0)
    found = perfusion.deconvolve(torch.tensor(rows), torch.tensor(aif), STEP_S, "osvd", oscillation=0.035).numpy()
    s = np.linalg.svd(circulant(aif), compute_uv=False)
    first = int((s < perfusion.LOWEST_SHARE * s[0]).sum())
    ranks = [n for n in range(first, len(s)) if n == first or s[len(s) - n] < s[len(s) - n - 1] * (1 - 1e-6)]
    chosen = []
    for row, ours in zip(rows, found, strict=True):
        for rank in ranks:
            residue = by_svd(row, aif, rank)
            if oscillation(residue) <= 0.035:
                break
        chosen.append(rank)
        np.testing.assert_allclose(ours, residue, atol=1e-6 * np.abs(residue).max())
    assert len(set(chosen)) > 1


def test_the_oscillation_index_is_worked_by_hand():
    f = torch.tensor([[0.0, 2.0, 1.0, 1.0]])  # second differences -3 and 1, four samples, maximum 2
    assert float(perfusion.oscillation_index(f)) == pytest.approx(4 / (4 * 2))


@pytest.mark.parametrize("method", ["csvd", "osvd"])
def test_known_flow_volume_and_transit_come_back_from_curves_without_noise(method):
    truth = [(60.0, 4.0), (20.0, 6.0), (10.0, 9.0)]
    series = np.array([tissue(*pair) for pair in truth]).T.reshape(FRAMES, 1, 1, 3)
    found = perfusion.perfusion_maps(series, artery(), STEP_S, np.ones((1, 1, 3), bool), method, threshold=0.01)
    for n, (cbf, mtt_s) in enumerate(truth):
        assert found.cbv[0, 0, n] == pytest.approx(cbf * mtt_s / 60, rel=0.08)
        assert found.cbf[0, 0, n] == pytest.approx(cbf, rel=0.35)
    assert (np.diff(found.cbf[0, 0]) < 0).all()
    assert (np.diff(found.mtt_s[0, 0]) > 0).all()
    assert found.method == method


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 8))
def test_a_delay_moves_tmax_and_leaves_flow_alone(delay_s):
    series = np.array([tissue(40, 5, d) for d in (0, delay_s)]).T.reshape(FRAMES, 1, 1, 2)
    found = perfusion.perfusion_maps(series, artery(), STEP_S, np.ones((1, 1, 2), bool))
    assert found.tmax_s[0, 0, 1] - found.tmax_s[0, 0, 0] == pytest.approx(delay_s, abs=STEP_S)
    assert found.cbf[0, 0, 1] == pytest.approx(found.cbf[0, 0, 0], rel=0.1)


def test_tissue_reached_before_the_artery_keeps_its_flow_and_has_no_delay():
    late = np.interp(TIMES - 3, TIMES, artery(), left=0.0)
    series = tissue(40, 5).reshape(FRAMES, 1, 1, 1)
    mask = np.ones((1, 1, 1), bool)
    early, ordinary = (perfusion.perfusion_maps(series, aif, STEP_S, mask) for aif in (late, artery()))
    assert early.tmax_s.item() == 0
    assert early.cbf.item() == pytest.approx(ordinary.cbf.item(), rel=0.1)


def test_maps_are_filled_inside_the_mask_alone_and_do_not_depend_on_the_chunks(monkeypatch):
    rows = curves(60)
    series, mask = rows.T.reshape(FRAMES, 3, 4, 5), np.zeros((3, 4, 5), bool)
    mask[:, 1:3, :4] = True
    whole = perfusion.perfusion_maps(series, artery(), STEP_S, mask, "osvd")
    monkeypatch.setattr(perfusion, "VOXELS_AT_ONCE", 7)
    parts = perfusion.perfusion_maps(series, artery(), STEP_S, mask, "osvd")
    for name in ("cbf", "cbv", "mtt_s", "tmax_s"):
        values = getattr(whole, name)
        assert (np.isfinite(values) == mask).all()
        np.testing.assert_allclose(getattr(parts, name)[mask], values[mask], rtol=1e-4)


def test_smoothing_keeps_a_constant_inside_the_mask_and_takes_nothing_from_outside():
    mask = np.zeros((2, 12, 14), bool)
    mask[:, 3:9, 2:11] = True
    series = np.where(mask, 5.0, 1e4)[None].repeat(3, 0).astype(np.float32)
    found = perfusion.smoothed(series, mask, 2.5)
    np.testing.assert_allclose(found[:, mask], 5.0, rtol=1e-5)
    assert not found[:, ~mask].any()


def test_smoothing_lowers_noise_by_what_a_gaussian_of_that_width_must():
    rng, sigma = np.random.default_rng(3), 2.5 / 2.3548
    noise = rng.normal(size=(2, 1, 200, 200)).astype(np.float32)
    found = perfusion.smoothed(noise, np.ones((1, 200, 200), bool), 2.5)
    assert found[:, :, 10:-10, 10:-10].std() == pytest.approx(1 / (2 * sigma * np.pi**0.5), rel=0.05)


@pytest.mark.parametrize("method", ["csvd", "osvd"])
def test_maps_equal_a_loop_over_the_residues_of_single_voxels(method):
    rows, aif = curves(25, noise=3.0, seed=4), artery()
    found = perfusion.perfusion_maps(rows.T.reshape(FRAMES, 1, 5, 5), aif, STEP_S, np.ones((1, 5, 5), bool), method)
    factor = (1 - 0.45) / (1 - 0.25) / perfusion.BRAIN_DENSITY
    for n, row in enumerate(rows):
        residue = perfusion.deconvolve(torch.tensor(row[None]), torch.tensor(aif), STEP_S, method)[0].numpy()
        z = np.unravel_index(n, (1, 5, 5))
        cbv = 100 * factor * row.sum() / aif.sum()
        assert found.cbf[z] == pytest.approx(6000 * factor * residue.max(), rel=1e-3)
        assert found.cbv[z] == pytest.approx(cbv, rel=1e-3)
        assert found.mtt_s[z] == pytest.approx(60 * cbv / (6000 * factor * residue.max()), rel=1e-3)
        assert found.tmax_s[z] == (residue.argmax() if residue.argmax() < FRAMES else 0) * STEP_S


def test_the_temporal_mip_is_the_largest_mean_of_neighbouring_frames():
    series = np.zeros((5, 1, 1, 2), np.float32)
    series[2, 0, 0, 0], series[1:4, 0, 0, 1] = 9.0, 4.0
    np.testing.assert_allclose(perfusion.temporal_mip(series)[0, 0], [9, 4])
    np.testing.assert_allclose(perfusion.temporal_mip(series, 3)[0, 0], [3, 4])
    with pytest.raises(ParameterError, match="window"):
        perfusion.temporal_mip(series, 2)


def test_what_cannot_be_deconvolved_is_refused():
    rows, aif = torch.tensor(curves(2)), torch.tensor(artery())
    with pytest.raises(ParameterError, match="same times"):
        perfusion.deconvolve(rows, aif[:-1], STEP_S)
    with pytest.raises(ParameterError, match="deconvolution"):
        perfusion.deconvolve(rows, aif, STEP_S, "ssvd")
    with pytest.raises(DataError, match="finite"):
        perfusion.deconvolve(rows * torch.nan, aif, STEP_S)
    with pytest.raises(DataError, match="another artery"):
        perfusion.deconvolve(rows, torch.zeros(FRAMES), STEP_S)
    with pytest.raises(ParameterError, match="series"):
        perfusion.perfusion_maps(np.zeros((4, 2, 2)), artery(), STEP_S, np.ones((2, 2), bool))
