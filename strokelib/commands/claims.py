"""``strokelib claims``: train what the four papers' claims compare, and say what comes of each claim."""

from __future__ import annotations

import argparse
import os
import time

HELP = "train what the claims of the four papers compare, with several seeds, and test each claim"
EXAMPLE = "strokelib claims --seeds 3 --only papl_added_unet_aisd,adn_best_unet3d_dice"
SHOWN = ("id", "patients", "seeds", "effect and 95 % CI", "detectable", "published", "verdict")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row, seeds 0 and up (default 3)")
    parser.add_argument(
        "--only", default="", metavar="ID,...", help="these claims alone (ids of data_manifests/claims.csv)"
    )
    parser.add_argument(
        "--paper", default="", metavar="KEY,...", help="claims of papl, adn, ssl_nnunet or pseudo_dwi alone"
    )
    parser.add_argument("--list", action="store_true", help="print the claims with their rows, and train nothing")
    parser.add_argument("--check", action="store_true", help="compute the committed results again from the scores")


def run(args: argparse.Namespace) -> int:
    """Train, write ``data_manifests/claims_*``, and print what is known of each claim."""
    from strokelib import claiming, claims

    only, papers = (tuple(filter(None, text.replace(" ", "").split(","))) for text in (args.only, args.paper))
    if args.check:
        n = claiming.check()
        print(f"claims_results.csv follows from claims_scores.csv.gz: {n} claims with scores")
        return 0
    if args.list:
        print(listing(only, papers))
        return 0
    campaign, begun = claiming.Campaign(claiming.chosen(only, papers), args.seeds), time.process_time()
    names = [claim.id for claim in campaign.claims]
    print(f"{len(names)} claims, {len(campaign.rows)} rows, {args.seeds} seeds, size {claiming.SIZE}, embedded heads")
    table = claiming.run(campaign)
    print(page(table[table["id"].isin(names)]))
    known = claims.results(campaign.out / "claims_results.csv")
    resolved, said = known[known["resolves"] == "yes"], known["verdict"].value_counts()
    learnt = int(((resolved["learnt_a"] != "no") & (resolved["learnt_b"] != "no")).sum())
    print(f"\nall claims: {', '.join(f'{count} {word}' for word, count in said.items())}")
    print(f"detectable effect below the published difference: {len(resolved)} claims, both rows learnt in {learnt}")
    print(f"written: {os.path.relpath(campaign.out)}/ (CPU {(time.process_time() - begun) / 60:.1f} min)")
    return 0


def listing(only: tuple[str, ...] = (), papers: tuple[str, ...] = ()) -> str:
    """Every claim with its rows and the published difference, largest first.

    Args:
        only: Ids of claims; all by default.
        papers: Keys of papers; all by default.
    """
    from strokelib import claiming, claims

    found = [one for one in claims.all_claims() if (not only or one.id in only) and (not papers or one.paper in papers)]
    found.sort(key=lambda one: -abs(claims.published_difference(one).gain))
    lines = []
    for one in found:
        why = claiming.why_not(one)
        said = f"not testable here: {why}" if why else f"{one.ours_a} against {one.ours_b} ({one.cohort}, {one.part})"
        lines.append(f"{one.id:<38} {claims.published_difference(one).gain:+9.4g} {one.score:<12} {said}")
    return "\n".join(lines)


def page(table) -> str:
    """Results as text.

    Args:
        table: Lines of :func:`strokelib.claims.results`.
    """
    lines = [SHOWN]
    for one in table.to_dict("records"):
        numbers = ("", "", "", "") if one["effect"] != one["effect"] else _numbers(one)
        lines.append((one["id"], *numbers, f"{one['published']:+.3g}", one["verdict"]))
    widths = [max(len(line[k]) for line in lines) for k in range(len(SHOWN))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _numbers(one: dict) -> tuple[str, str, str, str]:
    effect = f"{one['effect']:+.3g} ({one['low']:+.3g} to {one['high']:+.3g})"
    return f"{one['n_patients']:.0f}", f"{one['n_seeds']:.0f}", effect, f"{one['mde']:.3g}"
