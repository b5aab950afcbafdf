"""Taking some of many patients."""

import numpy as np
import pandas as pd
import pytest

from strokelib.data.phantom.draw_spread import every_nth, matched, number, spread
from strokelib.errors import DataError


def patients(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    scores = np.where(rng.random(count) < 0.35, np.nan, rng.integers(0, 30, count))
    names = [f"sub-{n}" for n in rng.permutation(count) + 1]
    return pd.DataFrame({"nihss": scores, "ml": rng.lognormal(2.3, 1.5, count)}, index=names)


def test_the_number_of_a_patient_is_read_from_the_name():
    assert number("sub-1000") == 1000


@pytest.mark.parametrize("count", [0, 1, 7, 100, 400])
def test_every_nth_takes_as_many_different_patients_as_asked(count):
    taken = every_nth(np.random.default_rng(0), patients(400), count, "some")
    assert len(set(taken)) == len(taken) == count


def test_every_nth_keeps_severity_volume_and_what_is_missing():
    pool = patients(400)
    for seed in range(5):
        taken = pool.loc[every_nth(np.random.default_rng(seed), pool, 60, "some")]
        assert taken["nihss"].isna().mean() == pytest.approx(pool["nihss"].isna().mean(), abs=0.03)
        assert taken["nihss"].mean() == pytest.approx(pool["nihss"].mean(), abs=1.5)
        assert np.log(taken["ml"]).mean() == pytest.approx(np.log(pool["ml"]).mean(), abs=0.15)


def test_the_order_of_the_rows_does_not_matter():
    pool = patients(50)
    turned = pool.iloc[::-1]
    wanted = pd.DataFrame({"ml": [1.0, 5.0, 25.0]})
    for seed in range(3):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        assert every_nth(first, pool, 9, "some") == every_nth(second, turned, 9, "some")
        assert matched(first, pool, wanted, {"ml": 1.0}, "some") == matched(second, turned, wanted, {"ml": 1.0}, "some")


def test_parts_are_disjoint_and_the_guarded_one_stays_clear_of_the_band():
    pool = patients(300)
    parts = spread(
        np.random.default_rng(1), pool, {"train": 180, "val": 40, "test": 40}, "some", ("test",), (8.0, 20.0)
    )
    assert list(parts) == ["train", "val", "test"]
    assert {part: len(names) for part, names in parts.items()} == {"train": 180, "val": 40, "test": 40}
    assert len({name for names in parts.values() for name in names}) == 260
    assert not pool.loc[parts["test"], "ml"].between(8.0, 20.0).any()
    assert pool.loc[parts["train"], "ml"].between(8.0, 20.0).any()


def test_a_match_has_the_smallest_sum_of_squares():
    pool = pd.DataFrame({"score": [1.0, 2.0, 10.0], "man": [0.0, 1.0, 1.0]}, index=["sub-1", "sub-2", "sub-3"])
    wanted = pd.DataFrame({"score": [1.9, 2.0], "man": [1.0, 1.0]})
    rng = np.random.default_rng(0)
    assert matched(rng, pool, wanted, {"score": 1.0}, "some") == ["sub-1", "sub-2"]
    assert matched(rng, pool, wanted, {"score": 1.0, "man": 100.0}, "some") == ["sub-2", "sub-3"]


def test_too_few_patients_are_refused_by_name():
    pool = patients(10)
    with pytest.raises(DataError, match="some: found 10 patients; wanted 11"):
        every_nth(np.random.default_rng(0), pool, 11, "some")
    with pytest.raises(DataError, match="some, test"):
        spread(np.random.default_rng(0), pool, {"train": 5, "test": 5}, "some", ("test",), (0.0, 1e6))
    with pytest.raises(DataError, match="some"):
        matched(np.random.default_rng(0), pool, pd.DataFrame({"ml": np.ones(11)}), {"ml": 1.0}, "some")
