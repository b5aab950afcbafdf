"""The model card of demo weights, written from the facts that lie in their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from strokelib.methods.reference_rows import SHORT
from strokelib.methods.weight_kinds import KINDS, PERFUSION

MEANING = {
    "done": "trained until its validation curve was flat, with three seeds, and above the rows that need no network.",
    "1 seed": "trained until its validation curve was flat, and above the best row that needs no network; one seed.",
    "undertrained": "its validation curve was still rising when the training stopped.",
    "did not learn": "its interval does not lie above the best row that needs no network: it is not better than that.",
}
NOT_CLINICAL = "Not for clinical use: these weights are no medical device, and what they mark on a scan is no finding."


def card(facts: Mapping[str, Any], *, size: int, digest: str) -> str:
    """The model card as Markdown.

    Args:
        facts: Of the file, as :func:`strokelib.methods.weights.read` gives them.
        size: Bytes of the file.
        digest: Its SHA-256.
    """
    parts = (_head(facts), _networks(facts), _data(facts), _scores(facts), _limits(facts), _file(facts, size, digest))
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Demo weights: {facts['title']}"
    yield ""
    yield f"**{NOT_CLINICAL}**"
    yield ""
    yield f"The row `{facts['row']}` of {facts['paper']}, trained by strokelib {facts['strokelib']} in the profile"
    yield f"`{facts['profile']}` on **embedded heads** (rendered, not scanned). They let a reader predict at once; they"
    yield "are small, briefly trained networks, and no result of the paper."
    yield ""


def _networks(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Networks and recipe"
    yield ""
    yield "| network | weights | stored as | steps | kept | training | still rising |"
    yield "| --- | ---: | --- | ---: | ---: | --- | --- |"
    for name, part in facts["parts"].items():
        rising = "yes" if part["undertrained"] else "no"
        cells = (part["stored"], part["steps"], part["best_step"], f"`{part['training']}`", rising)
        yield f"| {name} ({part['title']}) | {part['weights']:,} | " + " | ".join(map(str, cells)) + " |"
    yield ""
    yield f"Seed {facts['seed']}. *Kept* is the step with the best validation score. Every hyper-parameter:"
    yield ""
    for name, part in facts["parts"].items():
        said = ", ".join(f"{key} {_plain(value)}" for key, value in part["recipe"].items())
        yield f"- `{name}`: {said}."
    yield ""


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(map(_plain, value)) + ")"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value) or "-"


def _data(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Data"
    yield ""
    for name, part in facts["parts"].items():
        cohorts = part["cohort"].replace(" ", ", ")
        yield f"- `{name}`: {part['n_train']} training and {part['n_val']} validation scans of embedded {cohorts}."
    yield f"- Scored on {facts['scores']['n']} test scans of embedded {facts['cohort']}; patients of the parts differ."
    yield ""
    yield "Real in these heads are infarct masks, anatomy and noise statistics; how dark an infarct is, pose and"
    yield "scanner are simulated (`data_manifests/knobs.csv`). No patient's own CT was trained on; the file holds no"
    yield "image."
    yield ""


def _scores(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["scores"]
    best = SHORT.get(found["reference"], found["reference"])
    yield "## Scores"
    yield ""
    yield f"Dice at probability 0.5, mean over n = {found['n']} scans with a 95 % interval over scans (BCa bootstrap)."
    yield "One training: the intervals say nothing about other seeds."
    yield ""
    yield "| | Dice | 95 % CI |"
    yield "| --- | ---: | --- |"
    for name, key in (
        ("these weights", "dice"),
        (f"{best} (needs no network)", "reference_dice"),
        ("difference", "margin"),
    ):
        value, low, high = found[key]
        sign = "+" if key == "margin" else ""
        yield f"| {name} | {value:{sign}.3f} | {low:{sign}.3f} to {high:{sign}.3f} |"
    yield ""
    yield f"Status: **{found['status']}**: {MEANING[found['status']]}"
    yield f"Nothing was found in {found['missed']} of {found['n']} scans."
    yield ""
    change = facts["change"]
    yield f"Storing the weights in fewer bits changed the mean Dice by {change['mean']:+.4f}, that of one scan by at"
    yield f"most {change['largest']:+.4f}. Computed in {facts['computed']}; other hardware changes the last digits."
    yield ""
    yield "<details><summary>Dice of each test scan</summary>"
    yield ""
    yield ", ".join(f"{name} {value:.4f}" for name, value in found["cases"].items())
    yield ""
    yield "</details>"
    yield ""


def _limits(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield "- The networks know simulated scanners only. What they mark on a real scan, or leave, is no finding."
    yield "- Voxels are 5 x 2 x 2 mm: an infarct below about 1 mL is a few voxels."
    yield "- Acute infarcts alone: haemorrhage, tumour, old infarct, motion and metal are unknown to it."
    if facts["needs"] == PERFUSION:
        yield "- It needs CT perfusion: the maps CBF, CBV, MTT and Tmax, and the series."
    if facts["key"] == "ssl_nnunet":
        yield "- One network of the row's three; the row's scores in the book are those of a majority vote."
    yield "- Calibration was not looked at: 0.5 is a threshold and no probability of disease."
    yield ""


def _file(facts: Mapping[str, Any], size: int, digest: str) -> Iterator[str]:
    key = facts["key"]
    yield "## File"
    yield ""
    yield f"`{key}.safetensors`, {size:,} bytes, SHA-256 `{digest}`."
    yield f"Licence: BSD-3-Clause, as strokelib. Cite strokelib, and {KINDS[key].paper} for the method."
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    yield f"Made with {versions}; {facts['threads']} thread{'s' if facts['threads'] > 1 else ''}."
    yield ""
    yield "```python"
    yield "from strokelib.methods import weights"
    yield ""
    yield f'demo = weights.load("{key}")'
    yield "probability = demo.predict(case)  # a prepared case; (D, H, W) in [0, 1]"
    yield "```"
    yield ""
    yield f"Made again by `strokelib train {key} --profile {facts['profile']} --export`. This card is written from the"
    yield "file's own facts."
