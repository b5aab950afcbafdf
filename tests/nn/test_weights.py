import pytest
import torch

from strokelib.errors import DataError
from strokelib.nn.weights import check_encoder

OWN = {"a.weight": torch.zeros(2, 3), "a.steps": torch.tensor(0)}


def test_weights_of_the_same_names_and_shapes_pass():
    assert check_encoder(OWN, {name: tensor + 1 for name, tensor in OWN.items()}, "build another") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"a.weight": torch.zeros(3, 2)},
            r"a\.weight: found shape \(3, 2\); wanted shape \(2, 3\)\. .*: build another",
        ),
        ({"a.weight": torch.full((2, 3), torch.nan)}, r"a\.weight: found values that are not finite; wanted finite"),
        ({"b": torch.zeros(1)}, r"b: found shape \(1,\); wanted no such weight"),
    ],
)
def test_another_shape_a_nan_and_an_unknown_name_are_refused(change, words):
    with pytest.raises(DataError, match=f"encoder weight {words}"):
        check_encoder(OWN, OWN | change, "build another")


def test_a_missing_weight_is_refused():
    with pytest.raises(DataError, match=r"encoder weight a\.steps: found nothing; wanted shape \(\)"):
        check_encoder(OWN, {"a.weight": OWN["a.weight"]}, "build another")
