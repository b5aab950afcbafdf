"""docs/nnunet.md: its examples run as they stand, in their order."""

import os
import re
import sys
from dataclasses import replace

import numpy as np
import torch

from strokelib.settings import project_root

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads


def heads():
    parts = ("train", "train", "val", "test")
    made = [made_heads.head(number, part, shape=(12, 20, 16)) for number, part in enumerate(parts)]
    return [replace(case, id=f"head_{n}", patient=f"p{n}") for n, case in enumerate(made)]


def test_the_examples_of_the_page_run_and_what_goes_there_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (project_root() / "docs" / "nnunet.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    names = {"cases": heads()}
    for block in blocks:
        exec(block, names)  # the page's own code
    assert [case.id for case in names["again"]] == [case.id for case in names["cases"]]
    for one, other in zip(names["again"], names["cases"], strict=True):
        np.testing.assert_array_equal(one.lesion, other.lesion & other.brain)
    assert names["read_plans"](names["plans_file"]) == names["planned"]
    first = names["pretrained"].teacher.encoder.state_dict()
    for name, weight in names["taken"].encoder.state_dict().items():
        torch.testing.assert_close(weight, first[name], rtol=0, atol=0)
