"""docs/adding_a_method.md: its example runs as it stands, in the smoke profile, and its row shows up in two tables."""

import contextlib
import io
import os
import re
import sys

import pytest
import torch

from strokelib.data.inplane import known_line
from strokelib.errors import ParameterError
from strokelib.methods import papl
from strokelib.papl import networks
from strokelib.papl.recipe import KnowledgeRecipe, SegmentationRecipe
from strokelib.settings import Profile, Settings, project_root

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

PAGE = (project_root() / "docs" / "adding_a_method.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
HOW = {"shape": (10, 48, 48), "spacing": (5.0, 4.0, 4.0), "tilt_deg": 7.0, "shift": 2.0}
# The made heads are as small as the recipe's pooled window; all else is the smoke profile's.
WHOLE = {"pool": 1, "crop": None, "smallest_brain_ml": 0.0}
ROW = "Dilated net"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the page's code leaves behind, and what it prints."""
    out, said = tmp_path_factory.mktemp("models"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        made_heads.steady(patch)
        lines = lambda settings, parts, out: {case.id: known_line(case) for part in parts for case in part}  # noqa: E731
        patch.setattr(papl, "midlines", lines)
        patch.setattr(networks, "NETWORKS", dict(networks.NETWORKS))
        splits = {"train": range(3), "val": range(3, 5), "test": range(5, 8)}
        parts = tuple(made_heads.heads(numbers, split, **HOW) for split, numbers in splits.items())
        settings = Settings(Profile.SMOKE, "aisd", 0, None, out, out / "figures")
        left = {
            "study": papl.Study(settings, parts, out, {KnowledgeRecipe: WHOLE, SegmentationRecipe: WHOLE}),
            "__name__": "page",
        }
        for block in BLOCKS:
            exec(block, left)  # the page's own code
    return left | {"printed": said.getvalue()}


def test_the_example_is_under_sixty_lines():
    assert len("\n".join(BLOCKS).splitlines()) < 60


def test_the_network_was_trained_by_its_name_with_the_smoke_recipe(names):
    trained = names["outcomes"][ROW].trained
    assert isinstance(trained.model, names["DilatedNet"])
    assert trained.recipe.network == ROW
    assert trained.recipe == SegmentationRecipe.at("smoke", network=ROW, **WHOLE)
    assert trained.history.steps == trained.recipe.steps
    assert len(names["outcomes"][ROW].scores.query("metric == 'dice'")) == 3


def test_its_row_stands_beside_the_others_with_a_difference_to_papl(names):
    table = names["table"].set_index(["row", "metric"])
    assert list(names["table"]["row"].unique()) == ["U-Net (aligned)", "PAPL", ROW]
    own = table.loc[ROW, "DSC"]
    assert own["published"] == "none"
    assert own["n"] == 3
    assert own["ours"] - table.loc["PAPL", "DSC"]["ours"] == pytest.approx(own["difference"])
    assert f"| `{ROW}` |" in names["printed"]


def test_in_table_ii_it_comes_last_and_holds_no_published_number(names):
    second = names["second"]
    aisd, xwhd = (second[second["dataset"] == name] for name in ("AISD", "XWHD"))
    assert aisd["row"].iloc[-1] == ROW
    own = aisd[aisd["row"] == ROW].set_index("metric")
    assert set(own["published"]) == {"none"}
    assert own.loc["DSC", "ours"] == names["table"].set_index(["row", "metric"]).loc[(ROW, "DSC"), "ours"]
    assert own.loc["DSC", "status"] == names["status"][ROW]
    assert xwhd["ours"].isna().all()
    assert set(xwhd["status"]) == {"not yet"}
    rows_not_run = set(aisd["row"]) - set(names["outcomes"])
    assert set(aisd[aisd["row"].isin(rows_not_run)]["status"]) == {"not yet"}


def test_the_package_does_not_know_the_network_afterwards(names):
    assert ROW not in networks.NETWORKS
    with pytest.raises(ParameterError, match="network"):
        networks.build_network(ROW, 4)


def test_the_network_keeps_the_size_and_sees_as_far_as_its_docstring_says(names):
    torch.manual_seed(0)
    network = names["DilatedNet"](1, 2, 4).eval()
    image = torch.zeros(1, 1, 41, 47, requires_grad=True)
    logits = network(image)
    assert logits.shape == (1, 2, 41, 47)
    # Linear, so that no ReLU hides what lies in the field.
    for layer in network.modules():
        if isinstance(layer, torch.nn.ReLU):
            layer.forward = lambda x: x
    network(image)[0, 1, 20, 23].backward()
    rows, columns = torch.nonzero(image.grad[0, 0].abs() > 0).T
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == (35, 35)
    with pytest.raises(ParameterError, match="dilated network"):
        network(torch.zeros(1, 3, 8, 8))
