"""The claims of the papers as a forest plot, and how many have which verdict."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from strokelib.claims.pages import OUR_VERDICTS, PRINTED_VERDICTS, signed
from strokelib.errors import DataError
from strokelib.tables import PAPER_TITLES

WIDTH_IN, LINE_IN, SMALL_PT = 7.2, 0.175, 6.3
VERDICT_COLOURS = {
    "supported": "#009E73",
    "contradicted": "#D55E00",
    "not supported": "#D55E00",
    "inconclusive": "#0072B2",
    "cannot be told": "#0072B2",
    "inconclusive (1 seed)": "#56B4E9",
    "not testable here": "0.82",
}
UNITS = {"1": "gain (fraction)", "relative": "gain (relative to the volume)", "mm": "gain (mm)", "mL": "gain (mL)"}


def forest(table: pd.DataFrame, title: str) -> Figure:
    """Our gains with their 95 % intervals, the printed ones and what could have been found, a claim a line.

    A few wide intervals do not squeeze the others: where the widest fifth would take more than a third of the axis they
    are cut, with an arrow for each end beyond it. Their numbers stand beside them.

    Args:
        table: Columns group, rows, score, unit (of :data:`UNITS`), published, effect, low, high, n_patients, n_seeds,
            mde, resolves and verdict, as :func:`strokelib.claims.pages.ledger_table` gives them; each with an effect.
        title: Of the figure.

    Raises:
        DataError: There is no claim, or one without an effect.
    """
    if table.empty or table["effect"].isna().any():
        found = f"{len(table)} claims, {table['effect'].isna().sum()} of them without an effect"
        wanted, step = "one or more, each scored", "leave out what was not scored"
        raise DataError("claims of a figure", found=found, wanted=wanted, next_step=step)
    blocks = [table[table["unit"] == unit] for unit in UNITS if (table["unit"] == unit).any()]
    heights = [len(block) + block["group"].nunique() for block in blocks]
    size = (WIDTH_IN, LINE_IN * sum(heights) + 0.45 * len(blocks) + 0.65)
    how = {"layout": "constrained", "height_ratios": heights, "squeeze": False}
    figure, axes = plt.subplots(len(blocks), 1, figsize=size, **how)
    for ax, block in zip(axes[:, 0], blocks, strict=True):
        _block(ax, block)
    axes[0, 0].set_title(title, loc="left")
    said = [word for word in OUR_VERDICTS if word in set(table["verdict"])]
    printed = {"color": "black", "marker": "D", "markersize": 4, "linestyle": ""}
    cut = any(_beyond(block).to_numpy().any() for block in blocks)
    arrow = {"color": "0.3", "marker": ">", "markersize": 4, "linestyle": ""}
    handles = [
        *(Line2D([], [], color=VERDICT_COLOURS[word], marker="o", markersize=4, label=word) for word in said),
        Line2D([], [], **printed, label="printed gain, above MDE"),
        Line2D([], [], **printed, markerfacecolor="none", label="printed, not above it"),
        Patch(color="0.88", label="± minimum detectable effect (MDE)"),
        *([Line2D([], [], **arrow, label="ends beyond the axis")] if cut else []),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), frameon=False)
    return figure


def _block(ax: Axes, block: pd.DataFrame) -> None:
    place, places, ticks, headings = 0, [], [], []
    for group, lines in block.groupby("group", sort=False):
        ticks.append((place, str(group)))
        headings.append(str(group))
        for line in lines.itertuples():
            place += 1
            places.append(place)
            ticks.append((place, line.rows if line.score == "dice" else f"{line.rows}, {line.score}"))
            _line(ax, place, line)
        place += 1
    reach = _reach(block)
    for at, line in zip(places, _beyond(block).itertuples(), strict=True):
        colour = VERDICT_COLOURS[block["verdict"].loc[line.Index]]
        for beyond, marker, side in ((line.low, "<", -1), (line.high, ">", 1)):
            if beyond:
                ax.plot(0.985 * side * reach, at, marker, color=colour, markersize=4, zorder=6)
    ax.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    ax.set(xlim=(-reach, reach), ylim=(place - 0.4, -0.7), xlabel=UNITS[block["unit"].iloc[0]])
    ax.xaxis.set_major_locator(MaxNLocator(7, symmetric=True))
    ax.set(yticks=[where for where, _ in ticks], yticklabels=[name for _, name in ticks])
    for label, (_, name) in zip(ax.get_yticklabels(), ticks, strict=True):
        label.set(fontsize=SMALL_PT, fontweight="bold" if name in headings else "normal")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _reach(block: pd.DataFrame) -> float:
    """Where the axis of a block ends, on both sides of 0: at the widest interval, or at four fifths of them."""
    ends, printed = block[["low", "high"]].abs().max(axis=1), block["published"].abs().max()
    whole, most = (1.12 * max(end, printed, 1e-3) for end in (ends.max(), ends.quantile(0.8)))
    return float(whole if whole <= 1.5 * most else most)


def _beyond(block: pd.DataFrame) -> pd.DataFrame:
    """Of each claim, in the order drawn, whether its interval goes beyond the axis: columns low and high."""
    drawn = block.loc[[index for _, lines in block.groupby("group", sort=False) for index in lines.index]]
    reach = _reach(block)
    return pd.DataFrame({"low": drawn["low"] < -reach, "high": drawn["high"] > reach})


def _line(ax: Axes, place: int, line: tuple) -> None:
    colour, places = VERDICT_COLOURS[line.verdict], 3 if line.unit in ("1", "relative") else 1
    if np.isfinite(line.mde):
        ax.plot([-line.mde, line.mde], [place] * 2, color="0.88", linewidth=7, solid_capstyle="butt", zorder=0)
    ax.plot([line.low, line.high], [place] * 2, color=colour, linewidth=1.5, solid_capstyle="butt", zorder=3)
    ax.plot(line.effect, place, "o", color=colour, markersize=4.2, zorder=4)
    face = "black" if line.resolves == "yes" else "none"
    ax.plot(line.published, place, "D", color="black", markersize=3.6, markerfacecolor=face, zorder=5)
    low, high = (signed(value, places) for value in (line.low, line.high))
    seeds = f"{line.n_seeds:.0f} seed" + ("s" if line.n_seeds > 1 else "")
    said = f"{signed(line.effect, places)} ({low} to {high}), n = {line.n_patients:.0f}, {seeds}"
    ax.text(1.02, place, said, transform=ax.get_yaxis_transform(), fontsize=SMALL_PT, va="center")


def verdict_bars(counts: pd.DataFrame) -> Figure:
    """Verdicts by paper: of the printed numbers alone (A), and of our trainings (B).

    Args:
        counts: Columns source, paper, verdict, claims, as :func:`strokelib.claims.pages.counts` gives them.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 1.9), layout="constrained", sharey=True, sharex=True)
    panels = {"published": ("A · printed numbers alone", PRINTED_VERDICTS), "ours": ("B · our trainings", OUR_VERDICTS)}
    shown: dict[str, str] = {}
    for ax, (source, (title, words)) in zip(axes, panels.items(), strict=True):
        part = counts[counts["source"] == source].pivot(index="paper", columns="verdict", values="claims")
        part = part.reindex(index=list(PAPER_TITLES), columns=list(words)).fillna(0)
        left = np.zeros(len(part))
        for word in words:
            values = part[word].to_numpy(float)
            hatch = "///" if word in ("cannot be told", "not supported") else ""
            ax.barh(range(len(part)), values, left=left, color=VERDICT_COLOURS[word], hatch=hatch, edgecolor="white")
            for line in np.flatnonzero(values):
                ax.text(
                    left[line] + values[line] / 2, line, f"{values[line]:.0f}", ha="center", va="center", fontsize=7
                )
            left += values
            if values.any():
                shown[word] = hatch
        ax.set(title=title, xlabel="claims", yticks=range(len(part)), yticklabels=list(PAPER_TITLES))
        ax.tick_params(axis="y", length=0)
    axes[0].invert_yaxis()
    handles = [
        Patch(facecolor=VERDICT_COLOURS[word], hatch=hatch, edgecolor="white", label=word)
        for word, hatch in shown.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), frameon=False)
    return figure
