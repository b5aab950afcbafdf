"""Total loss of papl (Eq. 24), the growth of beta3, and the names that the ledger of equations asks for."""

import math

import pytest
import torch

from strokelib import manifest
from strokelib.errors import ParameterError
from strokelib.papl import losses
from strokelib.papl.losses import beta3_at, total_loss


def test_every_equation_of_the_ledger_is_in_the_module_of_losses():
    rows = manifest.equations()
    asked = {
        o.rpartition(".")[2] for o in rows["object"][rows["paper"] == "papl"] if o.startswith("strokelib.papl.losses.")
    }
    assert len(asked) == 16
    assert asked | {"beta3_at"} == set(losses.__all__)
    assert all(callable(getattr(losses, name)) for name in losses.__all__)


def test_the_three_losses_are_added_with_the_published_weights():
    segmentation, compensation, refinement = torch.tensor(1.0), torch.tensor(0.5), torch.tensor(-0.1)
    assert float(total_loss(segmentation, compensation, refinement)) == pytest.approx(0.8 + 0.4 - 0.02)
    assert float(total_loss(segmentation, compensation, refinement, 1.0, 0.2, 0.4)) == pytest.approx(1 + 0.1 - 0.04)
    assert float(total_loss(segmentation)) == pytest.approx(0.8)
    assert float(total_loss(segmentation, refinement=refinement, beta3=1.0)) == pytest.approx(0.7)


def test_beta3_is_the_published_sequence_and_ends_at_0_860():
    steps = [0.2, 0.24, 0.288, 0.3456, 0.4147, 0.4977, 0.5972, 0.7166, 0.860]
    for epoch in range(180):
        assert beta3_at(epoch) == 0.2 * 1.2 ** math.floor(epoch / 20)
        assert beta3_at(epoch) == pytest.approx(steps[epoch // 20], abs=5e-5)
    assert len({beta3_at(epoch) for epoch in range(180)}) == 9


def test_there_is_no_ninth_step_at_the_end_and_a_short_run_has_the_same_phases():
    assert beta3_at(180) == beta3_at(179) == pytest.approx(0.8599634)
    for steps in (9, 90, 1000):
        found = [beta3_at(step, steps) for step in range(steps + 1)]
        assert found == sorted(found)
        assert sorted(set(found)) == [0.2 * 1.2**phase for phase in range(9)]
    for share in (0.0, 0.1, 0.25, 0.5, 0.99, 1.0):
        assert beta3_at(share, 1) == beta3_at(180 * share)


def test_the_start_scales_all_phases_and_0_stays_0():
    assert beta3_at(170, start=0.4) == pytest.approx(2 * beta3_at(170))
    assert beta3_at(170, start=0.0) == 0
    assert beta3_at(170, growth=1.0) == 0.2
    assert beta3_at(170, phases=1) == 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": -1},
        {"epoch": 181},
        {"epoch": math.nan},
        {"epoch": 0, "epochs": 0},
        {"epoch": 1, "start": -0.1},
        {"epoch": 1, "growth": 0.0},
        {"epoch": 1, "phases": 0},
    ],
)
def test_an_epoch_outside_the_run_is_refused(wrong):
    with pytest.raises(ParameterError, match="beta3"):
        beta3_at(**wrong)
