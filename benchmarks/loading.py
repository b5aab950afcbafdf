"""How much of a training goes into loading, and the 3-D patches of strokelib beside those of MONAI.

First table: steps per second of the baseline's training in the demo profile with one batch used over and over (the
ceiling), with the plain sampler and with `Prefetch`; each with the demo's own augmentation and with the published
one. The last three rows train on 3-D patches with every change at once, read from disk, while the process waits for
another device: a step is a sleep. Second table: samples per second of patches with the same changes, equally likely,
from the same volumes in memory. Everything takes turns, so that a busy machine slows all alike; only the ratios mean
something, and CPU milliseconds, which do not count the time that other programs took. Busy cores are the process'
CPU seconds over the wall's.

    python benchmarks/loading.py [turns]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from strokelib.data.augment3d import Augmentation3d, Chance
from strokelib.data.cases import Case
from strokelib.data.loading import Batch, SliceSampler, slices_of
from strokelib.data.patches import PatchSampler
from strokelib.data.phantom import cohorts
from strokelib.data.prefetch import Prefetch
from strokelib.data.volumes import Volumes, volumes_of
from strokelib.methods import unet
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.precision import autocast, channels_last
from strokelib.repro import seed_everything
from strokelib.train.loop import to_device

HEADS, STEPS, SAMPLES, BATCH, SIZE, DEVICE_MS = 40, 10, 16, 2, (16, 64, 64), 60
DEGREES, ZOOM, SHIFT = (15.0, 5.0, 5.0), 0.2, 0.03
LIKELY = {"mirror": 0.5, "moved": 0.3, "gamma": 0.3, "contrast": 0.15, "brightness": 0.15}
LIKELY |= {"blur_mm": 0.2, "coarse": 0.25, "noise": 0.1}
REACH = {"gamma": 0.4, "contrast": 0.25, "brightness": 0.1, "blur_mm": 2.0, "coarse": 2.0, "noise": 0.1}
Measured = tuple[float, float]


def measured(call: Callable[[], Any], count: int) -> Measured:
    """Calls a second, and busy cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    spent = time.perf_counter() - wall
    return count / spent, (time.process_time() - cpu) / spent


def in_turns(calls: dict[str, Callable[[], Any]], count: int, turns: int) -> dict[str, np.ndarray]:
    """Name to (turns, 2): each call is measured once a turn, after one call that does not count."""
    for call in calls.values():
        call()
    found: dict[str, list[Measured]] = {name: [] for name in calls}
    for turn in range(turns):
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(measured(calls[name], count))
    return {name: np.array(values) for name, values in found.items()}


def rows(found: dict[str, np.ndarray], first: str, per_call: int = 1) -> Iterator[str]:
    """One line a name: median rate, its ratio to the first one's (median and range over the turns), CPU, busy cores."""
    for name, values in found.items():
        ratio = values[:, 0] / found[first][:, 0]
        rate, busy = np.median(values, axis=0)
        cpu_ms = np.median(1000 * values[:, 1] / values[:, 0]) / per_call
        spread = f"{ratio.min():.2f} to {ratio.max():.2f}"
        yield f"| {name} | {rate * per_call:.1f} | {np.median(ratio):.2f} ({spread}) | {cpu_ms:.1f} | {busy:.2f} |"


def trainer(recipe: unet.UNetRecipe, batches: Iterator[Batch]) -> Callable[[], None]:
    """A call of this makes one step of the baseline's training, as :func:`strokelib.train.fit` makes it."""
    model = channels_last(unet.build(recipe))
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    device = torch.device("cpu")

    def step() -> None:
        batch = to_device(next(batches), device)
        with autocast("auto", device):
            loss = dice_and_cross_entropy(model(batch.images), batch.lesions, recipe.dice_weight, recipe.ce_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()

    return step


def training_table(cases: Sequence[Case], turns: int) -> None:
    """Print the first table."""
    demo, paper = unet.UNetRecipe.at("demo"), unet.UNetRecipe.at("paper")
    names = ("mirror", "rotation_deg", "zoom", "shift", "contrast", "brightness", "noise")
    full = replace(demo, **{name: getattr(paper, name) for name in names})
    slices = slices_of(
        cases,
        window_hu=demo.window_hu,
        normalise=demo.normalise,
        smallest_brain_ml=demo.smallest_brain_ml,
        crop=demo.crop,
    )
    print("| training | steps/s | of the ceiling (range) | CPU ms a step | busy cores |\n" + "| --- " * 5 + "|")
    for title, recipe in (("demo", demo), ("demo, published augmentation", full)):

        def sampler(recipe: unet.UNetRecipe = recipe) -> SliceSampler:
            return SliceSampler(slices, recipe.batch, 0, recipe.lesion_share, recipe.augmentation())

        fixed = next(sampler())
        sources = {"one fixed batch": iter(lambda fixed=fixed: fixed, None), "plain sampler": sampler()}
        with Prefetch(sampler()) as ahead:
            steps = {f"{title}: {n}": trainer(recipe, s) for n, s in (sources | {"Prefetch": ahead}).items()}
            found = in_turns(steps, STEPS, turns)
        loading = in_turns({f"{title}: loading alone": sampler().__next__}, STEPS, turns)
        print(*rows(found, f"{title}: one fixed batch"), sep="\n")
        print(*(row.replace("1.00 (1.00 to 1.00)", "-") for row in rows(loading, *loading)), sep="\n", flush=True)


def with_monai(volumes: Volumes, chances: dict[str, float]) -> dict[str, Iterator[Any]]:
    """MONAI's transforms of the same names and reaches, in its two loaders, without processes of their own."""
    from monai import transforms as mt
    from monai.data import DataLoader, Dataset, ThreadDataLoader

    image, both = ["image"], ["image", "lesion"]
    flips = [mt.RandFlipd(both, chances["mirror"], spatial_axis=axis) for axis in range(3)]
    pipeline = mt.Compose(
        [
            mt.SpatialPadd(both, SIZE),
            mt.RandCropByPosNegLabeld(both, "lesion", SIZE, pos=1, neg=1, num_samples=1),
            mt.RandAffined(
                both,
                prob=chances["moved"],
                rotate_range=[float(np.radians(d)) for d in DEGREES],
                scale_range=[ZOOM] * 3,
                translate_range=[SHIFT * n for n in SIZE],
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            *flips,
            mt.RandGaussianSmoothd(image, (0.0, 0.4), (0.0, 1.0), (0.0, 1.0), prob=chances["blur_mm"]),
            mt.RandSimulateLowResolutiond(image, prob=chances["coarse"], zoom_range=(0.5, 1.0)),
            mt.RandAdjustContrastd(image, prob=chances["gamma"], gamma=(0.67, 1.5)),
            mt.RandScaleIntensityd(image, 0.25, chances["contrast"]),
            mt.RandShiftIntensityd(image, 0.1, prob=chances["brightness"]),
            mt.RandGaussianNoised(image, chances["noise"], std=0.1),
        ]
    ).set_random_state(0)
    items = [{"image": scan.images, "lesion": scan.lesions[None].float()} for scan in volumes if scan.lesions.any()]
    endless = Dataset([items[i % len(items)] for i in range(10**6)], pipeline)
    return {
        "MONAI, DataLoader": iter(DataLoader(endless, batch_size=BATCH, num_workers=0)),
        "MONAI, ThreadDataLoader": iter(ThreadDataLoader(endless, batch_size=BATCH, num_workers=0, buffer_size=2)),
    }


def waiting(batches: Iterator[Batch]) -> Callable[[], None]:
    """A call of this takes a batch and waits as for a device that computes by itself."""

    def step() -> None:
        next(batches)
        time.sleep(DEVICE_MS / 1000)

    return step


def device_rows(cases: Sequence[Case], turns: int) -> None:
    """Print the last rows of the first table."""
    volumes = volumes_of(cases, cache_mib=0.0)
    plain, other = (PatchSampler(volumes, SIZE, BATCH, 0, 0.5, changes(dict.fromkeys(LIKELY, 1.0))) for _ in range(2))
    fixed = next(plain)
    title = f"3-D patches, a step of {DEVICE_MS} ms elsewhere"
    with Prefetch(other) as ahead:
        sources = {"one fixed batch": iter(lambda: fixed, None), "plain sampler": plain, "Prefetch": ahead}
        found = in_turns({f"{title}: {n}": waiting(s) for n, s in sources.items()}, STEPS, turns)
    print(*rows(found, f"{title}: one fixed batch"), sep="\n", flush=True)


def changes(chances: dict[str, float]) -> Augmentation3d:
    """The augmentation of the second table: these probabilities, fixed reaches."""
    return Augmentation3d(
        mirror=(chances["mirror"],) * 3,
        moved=chances["moved"],
        rotation_deg=DEGREES,
        zoom=ZOOM,
        shift=SHIFT,
        **{name: Chance(chances[name], reach) for name, reach in REACH.items()},
    )


def patch_table(cases: Sequence[Case], turns: int) -> None:
    """Print the second table."""
    volumes, unkept = volumes_of(cases), volumes_of(cases, cache_mib=0.0)
    print("\n| patches | samples/s | of strokelib's (range) | CPU ms a sample | busy cores |\n" + "| --- " * 5 + "|")
    for title, chances in (("as likely as in nnU-Net", LIKELY), ("every change each time", dict.fromkeys(LIKELY, 1.0))):
        plain, read = (PatchSampler(v, SIZE, BATCH, 0, 0.5, changes(chances)) for v in (volumes, unkept))
        sources = {"strokelib": plain, "strokelib, read from disk": read} | with_monai(volumes, chances)
        found = in_turns({f"{title}: {n}": s.__next__ for n, s in sources.items()}, SAMPLES // BATCH, turns)
        print(*rows(found, f"{title}: strokelib", BATCH), sep="\n", flush=True)


def main(turns: int) -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")
    seed_everything(0)
    cases = cohorts.load("aisd", "train", "demo", limit=HEADS, progress=True)
    training_table(cases, turns)
    device_rows(cases, turns)
    patch_table(cases, turns)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
