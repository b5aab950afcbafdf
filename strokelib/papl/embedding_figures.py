"""Figure 8 of Sun et al. 2024: where the samples of stage 1 lie, over the training, with and without the intra loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.stats.plane import t_sne

WIDTH_IN, PANEL_IN, SMALL_PT = 7.2, 2.25, 6.5
ROW_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
Curve = tuple[np.ndarray, np.ndarray]
LABEL_LOOKS = {True: ("positive", "#D55E00"), False: ("negative", "#0072B2")}


@dataclass(frozen=True)
class EmbeddedSamples:
    """The samples of stage 1 as an encoder and its head embed them.

    Args:
        projection: (n, 2), of t-SNE; only who lies beside whom has a meaning.
        positive: (n,) bool.
        silhouette: Of the two classes among the embeddings, by cosine distance, -1 to 1.
        accuracy: Share of samples whose nearest other one, by cosine distance, has their label.
        title: When in the training, e.g. ``start``.
    """

    projection: np.ndarray
    positive: np.ndarray
    silhouette: float
    accuracy: float
    title: str = ""

    @property
    def chance(self) -> float:
        """The accuracy to expect where labels are shuffled."""
        n, positive = len(self.positive), int(self.positive.sum())
        return float((positive * (positive - 1) + (n - positive) * (n - positive - 1)) / (n * (n - 1)))

    @classmethod
    def of(cls, embeddings: np.ndarray, positive: Sequence[bool], title: str = "", *, seed: int = 0) -> EmbeddedSamples:
        """Project embeddings and measure how far the classes lie apart.

        Args:
            embeddings: (n, d), of any length.
            positive: (n,).
            title: When in the training.
            seed: Of t-SNE.

        Raises:
            DataError: Fewer than two samples of a class, values that are not finite, or all embeddings are the same.
        """
        from sklearn.metrics import silhouette_score

        vectors, labels = np.asarray(embeddings, float), np.asarray(positive, bool)
        counts = (int(labels.sum()), int((~labels).sum()))
        if vectors.ndim != 2 or len(vectors) != len(labels) or min(counts) < 2 or not np.isfinite(vectors).all():
            found = f"{vectors.shape} with {counts[0]} positive and {counts[1]} negative labels"
            wanted, step = "finite (n, d), two or more of each", "draw more samples"
            raise DataError("embeddings", found=found, wanted=wanted, next_step=step)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        if vectors.std(axis=0).max() < 1e-6:
            step = "look at the losses of stage 1"
            raise DataError("embeddings", found="the same for all samples", wanted="different ones", next_step=step)
        near = vectors @ vectors.T
        np.fill_diagonal(near, -np.inf)
        accuracy = float((labels[near.argmax(axis=1)] == labels).mean())
        silhouette = float(silhouette_score(vectors, labels, metric="cosine"))
        return cls(t_sne(vectors, seed=seed), labels, silhouette, accuracy, title)


def fig08_tsne(rows: Mapping[str, Sequence[EmbeddedSamples]]) -> Figure:
    """Positive and negative samples in the plane of t-SNE, a row a loss, from the start to the end of stage 1.

    Source: Fig. 8, Sun et al. 2024.
    Deviation: silhouette and accuracy of the nearest neighbour, both among the embeddings themselves, are added: the
        plane of t-SNE shows groups of its own making. The last panel is that of the end (P14).

    Args:
        rows: Which losses -> the same samples at several times; the paper has two rows of three.

    Raises:
        DataError: There is no panel, or the rows differ in length.
    """
    columns = {len(panels) for panels in rows.values()}
    if len(columns) != 1 or not (count := columns.pop()):
        found, step = {name: len(panels) for name, panels in rows.items()}, "embed with the same checkpoints"
        raise DataError("panels of a figure", found=found, wanted="as many in each row", next_step=step)
    size = (WIDTH_IN, PANEL_IN * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), count, figsize=size, layout="constrained", squeeze=False)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, wspace=0.02, hspace=0.04)
    for letter, ax, one in zip("abcdefghijkl", axes.flat, (p for row in rows.values() for p in row), strict=False):
        # In random order, or one class would cover the other.
        order = np.random.default_rng(0).permutation(len(one.positive))
        colours = [LABEL_LOOKS[bool(label)][1] for label in one.positive[order]]
        ax.scatter(*one.projection[order].T, s=7, c=colours, alpha=0.75, linewidths=0)
        said = f"silhouette {round(one.silhouette, 2) + 0.0:.2f}, neighbour {one.accuracy:.2f}".replace("-", "−")
        ax.set_title(f"{one.title}\n{said}" if one.title else said, fontsize=SMALL_PT + 1, pad=3, linespacing=1.15)
        ax.set(xticks=[], yticks=[])
        ax.set_box_aspect(0.8)
        ax.spines[["top", "right"]].set_visible(True)
        for spine in ax.spines.values():
            spine.set(color="0.6", linewidth=0.6)
        plotting.panel_letter(ax, letter)
    for ax, name in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(name, labelpad=6)
    first = next(iter(rows.values()))[0]
    handles = []
    for label, (word, colour) in LABEL_LOOKS.items():
        mark = {"linestyle": "", "marker": "o", "markersize": 3.6, "color": colour}
        handles.append(Line2D([], [], label=f"{word} (n = {int((first.positive == label).sum())})", **mark))
    said = f"neighbour: share of samples whose nearest one has their label, chance {first.chance:.2f}"
    handles.append(Line2D([], [], linestyle="", label=said))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, handletextpad=0.2)
    return figure


def fig_knowledge(
    losses: Mapping[str, Curve], curves: Mapping[str, Curve], scores: pd.DataFrame, table: pd.DataFrame, batch: int
) -> Figure:
    """How stage 1 went: its inter-sample loss (a), its validation (b), and test samples of other heads (c).

    Args:
        losses: Row -> steps and inter-sample loss of the training batches.
        curves: Row -> steps and share of validation samples whose nearest one has their label; not none.
        scores: Columns method, case, value: the same share on test heads, nearest samples being of other heads.
        table: Columns row, ours, ci95_low, ci95_high: means of ``scores``, in the order shown.
        batch: Samples a batch: where all embeddings are the same the loss is log(batch - 1).
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH_IN, 2.4), layout="constrained", width_ratios=(1, 1, 1.3))
    colours = dict(zip(curves, ROW_COLOURS * len(curves), strict=False))
    for ax, lines in zip(axes, (losses, curves), strict=False):
        for name, (steps, values) in lines.items():
            ax.plot(steps, values, color=colours[name], linewidth=1.1)
        ax.set_xlabel("step")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].axhline(math.log(batch - 1), color="0.45", linewidth=0.9, linestyle="--")
    axes[0].set_ylabel("inter-sample loss")
    axes[1].set(ylabel="neighbour (validation)", ylim=(0, 1))
    intervals = {row.row: (row.ours, row.ci95_low, row.ci95_high) for row in table.itertuples()}
    label = "neighbour of another\ntest head (95 % CI)"
    plotting.scores_by_method(axes[2], scores, intervals, order=list(intervals), label=label)
    for letter, ax in zip("abc", axes, strict=True):
        plotting.panel_letter(ax, letter)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles.append(Line2D([], [], color="0.45", linestyle="--", label="all embeddings alike"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure
