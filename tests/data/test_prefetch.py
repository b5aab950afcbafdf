import gc
import subprocess
import sys
import textwrap
import threading
import time
import traceback

import pytest
import torch
from torch import nn

from strokelib import train
from strokelib.data.augment import Augmentation
from strokelib.data.loading import Slices, SliceSampler
from strokelib.data.prefetch import Prefetch
from strokelib.data.streams import SeededStream
from strokelib.errors import DataError, ParameterError
from strokelib.nn.unet import UNet


def slices():
    generator = torch.Generator().manual_seed(0)
    lesions = torch.zeros(12, 16, 16, dtype=torch.uint8)
    lesions[:6, 4:9, 5:12] = 1
    images = torch.randn(12, 1, 16, 16, generator=generator) + 2 * lesions[:, None]
    return Slices(images, lesions, torch.arange(12), torch.zeros(12, dtype=torch.long))


def plain(seed=0):
    return SliceSampler(slices(), 4, seed, 0.5, Augmentation())


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.lesions, b.lesions)


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


class Counter(SeededStream):
    """Hands out its own numbers; fails at one of them as often as told."""

    def __init__(self, fails_at=None, failures=1):
        super().__init__(1, 0)
        self.fails_at, self.failures, self.threads = fails_at, failures, []

    def draw(self, first, generators):
        self.threads.append((threading.current_thread().name, torch.get_num_threads()))
        if first == self.fails_at and self.failures > 0:
            self.failures -= 1
            self.stumble()
        return first

    def stumble(self):
        raise DataError("case 7", found="half a file", wanted="a whole one", next_step="copy it again")


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_the_batches_are_those_of_the_plain_sampler_in_the_same_order(ahead):
    expected, prefetch = plain(), Prefetch(plain(), ahead)
    for _ in range(12):
        assert same(next(prefetch), next(expected))
        assert prefetch.state_dict() == expected.state_dict()


def test_the_position_is_that_of_what_was_handed_out_and_not_of_what_is_prepared():
    sampler = Counter()
    prefetch = Prefetch(sampler, 3)
    assert prefetch.state_dict() == {"seed": 0, "drawn": 0}
    assert next(prefetch) == 0
    assert wait_for(lambda: sampler.drawn == 4)
    assert prefetch.state_dict() == {"seed": 0, "drawn": 1}


def test_no_more_is_prepared_than_asked_for():
    sampler = Counter()
    prefetch = Prefetch(sampler, 2)
    next(prefetch)
    assert wait_for(lambda: sampler.drawn == 3)
    time.sleep(0.05)
    assert sampler.drawn == 3


def test_a_saved_position_is_resumed_with_and_without_prefetch():
    first = Prefetch(plain())
    for _ in range(3):
        next(first)
    state, expected = first.state_dict(), [next(first) for _ in range(3)]
    for again in (plain(), Prefetch(plain()), first):
        again.load_state_dict(state)
        assert all(same(next(again), batch) for batch in expected)
    with pytest.raises(ParameterError, match="seed 1"):
        Prefetch(plain(seed=1)).load_state_dict(state)


def test_the_thread_computes_on_one_core_and_leaves_the_callers_number_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        sampler = Counter()
        with Prefetch(sampler) as prefetch:
            for _ in range(5):
                next(prefetch)
            assert torch.get_num_threads() == 2
        assert {number for _, number in sampler.threads} == {1}
        assert {name.split("_")[0] for name, _ in sampler.threads} == {"prefetch"}
    finally:
        torch.set_num_threads(before)


def test_an_error_comes_at_its_place_with_the_traceback_of_its_origin_and_nothing_is_lost():
    prefetch = Prefetch(Counter(fails_at=3), 5)
    assert [next(prefetch) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="half a file") as caught:
        next(prefetch)
    assert "stumble" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert prefetch.state_dict()["drawn"] == 3
    assert [next(prefetch) for _ in range(3)] == [3, 4, 5]


def test_an_error_that_stays_is_raised_each_time():
    prefetch = Prefetch(Counter(fails_at=0, failures=10))
    for _ in range(2):
        with pytest.raises(DataError, match="half a file"):
            next(prefetch)


def test_after_closing_the_sampler_goes_on_by_itself_and_so_does_the_prefetch():
    sampler = Counter()
    with Prefetch(sampler) as prefetch:
        assert [next(prefetch) for _ in range(4)] == [0, 1, 2, 3]
    assert next(sampler) == 4
    assert prefetch.state_dict()["drawn"] == 5
    assert next(prefetch) == 5
    prefetch.close()
    prefetch.close()
    assert sampler.drawn == 6


def test_the_thread_ends_when_it_is_closed_or_nobody_uses_it_any_more():
    gc.collect()
    assert wait_for(lambda: not workers())  # those of other tests
    prefetch = Prefetch(Counter())
    assert not workers()
    next(prefetch)
    assert len(workers()) == 1
    prefetch.close()
    assert not workers()
    prefetch = Prefetch(Counter())
    next(prefetch)
    assert len(workers()) == 1
    del prefetch
    gc.collect()
    assert wait_for(lambda: not workers())


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(0)", "sampler.wait = 0.3; next(batches)"])
def test_a_process_that_does_not_close_it_ends_all_the_same(ending):
    code = f"""
        import time
        from strokelib.data.prefetch import Prefetch
        from strokelib.data.streams import SeededStream

        class Slow(SeededStream):
            wait = 0.0
            def draw(self, first, generators):
                time.sleep(self.wait)
                return first

        sampler = Slow(1, 0)
        batches = Prefetch(sampler, 2)
        for _ in range(5):
            next(batches)
        print("here", flush=True)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")


def test_too_few_batches_ahead_are_refused():
    with pytest.raises(ParameterError, match="1 or more"):
        Prefetch(plain(), 0)


def fit(sampler, out, steps=8, stop_at=None):
    torch.manual_seed(0)
    model = UNet(1, 2, width=2, depth=2)

    def step(network, batch, index):
        if index == stop_at:
            raise KeyboardInterrupt
        logits = network(nn.functional.dropout(batch.images, 0.1))
        return nn.functional.cross_entropy(logits, batch.lesions)

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    settings = {"device": "cpu", "seed": 0, "steps": steps, "checkpoint_every": 3, "progress": False}
    train.fit(model, sampler, step, optimizer=optimizer, out=out, **settings)
    return b"".join(v.numpy().tobytes() for v in train.plain_tensors(model).values())


def test_a_training_ends_with_the_same_bytes_with_and_without_prefetch_also_when_resumed(tmp_path):
    whole = fit(plain(), tmp_path / "plain")
    assert fit(Prefetch(plain()), tmp_path / "prefetch") == whole
    with pytest.raises(KeyboardInterrupt):
        fit(Prefetch(plain()), tmp_path / "stopped", stop_at=5)
    assert fit(Prefetch(plain(), 4), tmp_path / "stopped") == whole
