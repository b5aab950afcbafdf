"""Schedules of ssl_nnunet against literal loops and their end points."""

import math

import pytest

from strokelib.errors import ParameterError
from strokelib.ssl_nnunet.schedules import (
    FREEZING,
    LAST_LAYER,
    is_frozen,
    teacher_momentum,
    teacher_temperature,
    weight_decay,
)

STEPS = 15_000


def literal_cosine(step, steps, first, last):
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / steps))


@pytest.mark.parametrize(("schedule", "first", "last"), [(teacher_momentum, 0.9996, 1.0), (weight_decay, 0.04, 1e-5)])
def test_cosines_are_literal_from_end_to_end_and_at_the_middle(schedule, first, last):
    for step in range(0, 31):
        assert schedule(step, 30) == pytest.approx(literal_cosine(step, 30, first, last), rel=1e-12)
    assert schedule(0, STEPS) == pytest.approx(first, rel=1e-12)
    assert schedule(STEPS // 2, STEPS) == pytest.approx((first + last) / 2, rel=1e-12)
    assert schedule(STEPS, STEPS) == schedule(2 * STEPS, STEPS) == pytest.approx(last, rel=1e-12)
    values = [schedule(step, 50) for step in range(51)]
    assert values == sorted(values, reverse=last < first)


def test_the_public_code_s_values_are_arguments():
    assert teacher_momentum(0, STEPS, first=0.996) == pytest.approx(0.996)
    assert weight_decay(STEPS, STEPS, last=1e-6) == pytest.approx(1e-6)


def test_the_momentum_never_passes_one():
    assert max(teacher_momentum(step, 97) for step in range(300)) <= 1


def test_the_teacher_s_temperature_rises_over_the_first_tenth_and_stays():
    # 0.04 + 0.03 step / 1500.
    found = [teacher_temperature(step, STEPS) for step in (0, 500, 750, 1499, 1500, 1501, STEPS)]
    assert found == pytest.approx([0.04, 0.05, 0.055, 0.06998, 0.07, 0.07, 0.07])


@pytest.mark.parametrize("steps", [1, 3, 7, 100])
def test_the_teacher_s_temperature_stays_within_its_ends_in_runs_of_any_length(steps):
    values = [teacher_temperature(step, steps) for step in range(steps + 1)]
    assert values[0] == 0.04
    assert values[-1] == 0.07
    assert values == sorted(values)


def test_without_warm_up_the_teacher_s_temperature_is_the_last_from_the_start():
    assert [teacher_temperature(step, 5, warmup=0) for step in range(5)] == [0.07] * 5


@pytest.mark.parametrize(("share", "frozen"), zip(FREEZING, (0, 33, 66, 100), strict=True))
def test_the_encoder_is_frozen_for_the_first_0_33_66_or_100_epochs(share, frozen):
    assert [is_frozen(epoch, 100, share) for epoch in range(100)] == [True] * frozen + [False] * (100 - frozen)


@pytest.mark.parametrize("epochs", [0, 1, 7, 29, 57, 100])
def test_shares_of_100_epochs_are_whole_epochs(epochs):
    # 7 / 100 x 100 is above 7 in floating point.
    assert sum(is_frozen(epoch, 100, epochs / 100) for epoch in range(100)) == epochs
    assert sum(is_frozen(step, STEPS, epochs / 100) for step in range(STEPS)) == 150 * epochs


def test_the_last_layer_is_frozen_for_one_epoch_of_100():
    assert [is_frozen(step, STEPS, LAST_LAYER) for step in (0, 149, 150)] == [True, True, False]


@pytest.mark.parametrize("schedule", [teacher_momentum, weight_decay, teacher_temperature])
def test_no_steps_or_a_step_before_the_first_is_refused(schedule):
    for step, steps in ((0, 0), (-1, 10)):
        with pytest.raises(ParameterError, match="count steps from 0"):
            schedule(step, steps)
        with pytest.raises(ParameterError, match="count steps from 0"):
            is_frozen(step, steps, 0.5)


@pytest.mark.parametrize("share", [-0.1, 33, math.nan])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ParameterError, match="share"):
        is_frozen(0, 10, share)
    with pytest.raises(ParameterError, match="warmup"):
        teacher_temperature(0, 10, warmup=share)
