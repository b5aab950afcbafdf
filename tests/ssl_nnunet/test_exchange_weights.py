"""Weights to nnU-Net's checkpoints and back: names, shapes, exactness, and what is refused."""

import os
import re

import numpy as np
import pytest
import torch

from strokelib.errors import CheckpointError, DataError, ParameterError
from strokelib.ssl_nnunet.exchange_weights import (
    export_encoder,
    export_network,
    foreign_names,
    import_encoder,
    import_network,
)
from strokelib.ssl_nnunet.network import NNUNet, PlainConvEncoder

TWO = {"features": (2, 3), "strides": ((1, 1, 1), (1, 2, 2)), "kernels": ((1, 3, 3), (3, 3, 3))}
THREE = {"features": (2, 4, 4), "strides": ((1, 1, 1), (2, 2, 2), (1, 2, 2)), "kernels": ((3, 3, 3),) * 3}


def _network(seed=0, inputs=1, out=2, plan=THREE):
    torch.manual_seed(seed)
    network = NNUNet(inputs, out, **plan).eval()
    for weight in network.parameters():  # biases and norms too: those of a fresh network are all alike
        torch.nn.init.normal_(weight)
    return network


def _block(place, shape):
    """The eight entries of a convolution and its norm, with the shape of its weight."""
    width = shape[:1]
    return {
        f"{place}.conv.weight": shape,
        f"{place}.conv.bias": width,
        f"{place}.norm.weight": width,
        f"{place}.norm.bias": width,
        f"{place}.all_modules.0.weight": shape,
        f"{place}.all_modules.0.bias": width,
        f"{place}.all_modules.1.weight": width,
        f"{place}.all_modules.1.bias": width,
    }


ENCODER_SHAPES = {
    **_block("encoder.stages.0.0.convs.0", (2, 1, 1, 3, 3)),
    **_block("encoder.stages.0.0.convs.1", (2, 2, 1, 3, 3)),
    **_block("encoder.stages.1.0.convs.0", (3, 2, 3, 3, 3)),
    **_block("encoder.stages.1.0.convs.1", (3, 3, 3, 3, 3)),
}
SHAPES = {
    **ENCODER_SHAPES,
    **{f"decoder.{key}": shape for key, shape in ENCODER_SHAPES.items()},
    **_block("decoder.stages.0.convs.0", (2, 4, 1, 3, 3)),
    **_block("decoder.stages.0.convs.1", (2, 2, 1, 3, 3)),
    "decoder.transpconvs.0.weight": (3, 2, 1, 2, 2),
    "decoder.transpconvs.0.bias": (2,),
    "decoder.seg_layers.0.weight": (2, 2, 1, 1, 1),
    "decoder.seg_layers.0.bias": (2,),
}


def _held(path):
    return torch.load(path, weights_only=True)


def _shapes(path):
    return {key: tuple(weight.shape) for key, weight in _held(path)["network_weights"].items()}


@pytest.mark.parametrize("out", [1, 2])
def test_a_network_of_two_stages_has_the_documented_keys_and_shapes(tmp_path, out):
    assert _shapes(export_network(_network(out=out, plan=TWO), tmp_path / "checkpoint_final.pth")) == SHAPES


def test_an_encoder_alone_has_the_encoders_keys_alone(tmp_path):
    encoder = _network(plan=TWO).encoder.state_dict()
    assert _shapes(export_encoder(encoder, tmp_path / "encoder.pth")) == ENCODER_SHAPES


def test_the_checkpoint_has_what_a_loader_reads_and_is_readable_without_running_code(tmp_path):
    held = _held(export_network(_network(), tmp_path / "c.pth", configuration="3d_x", fold="all"))
    assert held["trainer_name"] == "nnUNetTrainer"
    assert held["init_args"] == {"configuration": "3d_x", "fold": "all"}
    assert held["inference_allowed_mirroring_axes"] == (0, 1, 2)
    assert {"optimizer_state", "grad_scaler_state", "logging", "_best_ema", "current_epoch"} <= set(held)


def test_duplicates_are_the_same_numbers_and_take_no_more_room(tmp_path):
    path = export_network(_network(), tmp_path / "c.pth")
    held = _held(path)["network_weights"]
    first = "encoder.stages.1.0.convs.1.conv.weight"
    for other in ("encoder.stages.1.0.convs.1.all_modules.0.weight", f"decoder.{first}"):
        assert torch.equal(held[first], held[other])
        assert held[first].data_ptr() == held[other].data_ptr()


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("out", [1, 2])
@pytest.mark.parametrize("plan", [TWO, THREE])
def test_a_network_comes_back_exactly(tmp_path, inputs, out, plan):
    network, other = _network(0, inputs, out, plan), _network(1, inputs, out, plan)
    other.load_state_dict(import_network(export_network(network, tmp_path / "c.pth"), other))
    for name, weight in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight), name


def test_one_sigmoid_channel_becomes_two_softmax_channels_of_the_same_probability(tmp_path):
    one, two = _network(0, out=1), _network(1, out=2)
    two.load_state_dict(import_network(export_network(one, tmp_path / "c.pth"), two))
    x = torch.randn(1, 1, 8, 12, 10)
    with torch.inference_mode():
        torch.testing.assert_close(two(x).softmax(1)[:, 1], one(x).sigmoid()[:, 0])
        assert bool((two(x)[:, 0] == 0).all())


def test_two_softmax_channels_become_one_sigmoid_channel_of_the_same_probability(tmp_path):
    one, two = _network(0, out=1), _network(1, out=2)
    one.load_state_dict(import_network(export_network(two, tmp_path / "c.pth"), one))
    x = torch.randn(1, 1, 8, 12, 10)
    with torch.inference_mode():
        torch.testing.assert_close(one(x).sigmoid()[:, 0], two(x).softmax(1)[:, 1])


def test_a_pre_trained_encoder_goes_into_the_network_and_leaves_the_decoder_alone(tmp_path):
    torch.manual_seed(5)
    encoder, network = PlainConvEncoder(1, **THREE), _network(1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    network.load_encoder(import_encoder(export_encoder(encoder.state_dict(), tmp_path / "e.pth"), network))
    for name, weight in network.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(weight, encoder.state_dict()[name.removeprefix("encoder.")])
        else:
            assert torch.equal(weight, before[name])


def test_an_encoder_can_be_taken_from_a_whole_checkpoint_without_a_network_to_compare(tmp_path):
    network = _network()
    found = import_encoder(export_network(network, tmp_path / "c.pth"))
    assert set(found) == set(network.encoder.state_dict())
    assert all(torch.equal(found[name], weight) for name, weight in network.encoder.state_dict().items())


def test_an_encoder_file_is_no_network(tmp_path):
    network = _network()
    path = export_encoder(network.encoder.state_dict(), tmp_path / "e.pth")
    with pytest.raises(DataError, match=r"e\.pth: decoder\.transpconvs\.0\.weight"):
        import_network(path, network)


def _changed(path, change):
    held = _held(path)
    held["network_weights"] = {key: weight.clone() for key, weight in held["network_weights"].items()}
    change(held["network_weights"])
    torch.save(held, path)
    return path


BLOCK = "encoder.stages.1.0.convs.0"


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        (lambda w: w.pop(f"{BLOCK}.conv.weight"), f"{BLOCK}.conv.weight", "this weight"),
        (lambda w: w.update({f"{BLOCK}.norm.bias": torch.zeros(9)}), f"{BLOCK}.norm.bias", r"shape \(9,\)"),
        (lambda w: w[f"{BLOCK}.conv.bias"].fill_(torch.nan), f"{BLOCK}.conv.bias", "finite"),
        (lambda w: w[f"{BLOCK}.all_modules.0.bias"].add_(1), f"{BLOCK}.conv.bias", "all_modules.0.bias"),
        (lambda w: w[f"decoder.{BLOCK}.norm.weight"].add_(1), f"{BLOCK}.norm.weight", "decoder.encoder"),
        (
            lambda w: w.update({"encoder.stages.7.0.convs.0.conv.bias": torch.zeros(2)}),
            "encoder.stages.7.0.convs.0.conv.bias",
            "none in this network",
        ),
    ],
)
def test_a_weight_that_does_not_fit_is_named_by_nnu_nets_key(tmp_path, change, key, said):
    network = _network()
    path = _changed(export_network(network, tmp_path / "c.pth"), change)
    for read in (import_network, import_encoder):
        with pytest.raises(DataError, match=said) as raised:
            read(path, network)
        assert raised.value.thing == f"c.pth: {key}"


def test_a_network_of_another_plan_is_refused_and_stays_as_it_was(tmp_path):
    wide, network = _network(plan={**THREE, "features": (2, 4, 6)}), _network(1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    path = export_network(wide, tmp_path / "c.pth")
    for read in (import_network, import_encoder):
        with pytest.raises(DataError, match=r"encoder\.stages\.2\.0\.convs\.0\.conv\.weight"):
            read(path, network)
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_more_input_channels_or_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"found shape \(2, 2, 3, 3, 3\); wanted shape \(2, 1, 3, 3, 3\)"):
        import_encoder(export_network(_network(inputs=2), tmp_path / "a.pth"), _network())
    with pytest.raises(ParameterError, match="3 output channels"):
        export_network(_network(out=3), tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()

    def third(weights):
        weights["decoder.seg_layers.0.bias"] = torch.zeros(3)

    with pytest.raises(DataError, match=r"decoder\.seg_layers\.0\.bias"):
        import_network(_changed(export_network(_network(), tmp_path / "c.pth"), third), _network(out=1))


def test_a_file_that_trainings_wrapped_in_module_prefixes_is_read(tmp_path):
    network = _network()
    path = export_network(network, tmp_path / "c.pth")
    held = _held(path)
    held["network_weights"] = {f"module.{key}": weight for key, weight in held["network_weights"].items()}
    torch.save(held, path)
    assert torch.equal(import_network(path, network)["heads.0.bias"], network.state_dict()["heads.0.bias"])


class _Command:
    """Would run a command if it were unpacked."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("kind", ["numpy", "command"])
def test_a_file_that_needs_more_than_tensors_is_refused_unrun_and_says_how_to_convert_it(tmp_path, kind):
    network, target = _network(), tmp_path / "ran"
    path = export_network(network, tmp_path / "c.pth")
    held = _held(path)
    held["_best_ema"] = np.float64(0.5) if kind == "numpy" else _Command(target)
    torch.save(held, path)
    with pytest.raises(CheckpointError, match="a pickle that calls") as raised:
        import_encoder(path, network)
    assert not target.exists()
    assert "only if you trust who made it" in raised.value.next_step


def test_the_conversion_that_the_refusal_names_works(tmp_path, monkeypatch):
    network = _network()
    path = export_network(network, tmp_path / "checkpoint_final.pth")
    held = _held(path)
    torch.save(held | {"_best_ema": np.float64(0.5)}, path)
    with pytest.raises(CheckpointError) as raised:
        import_network(path, network)
    command = re.search(r'python -c "(.+)"', raised.value.next_step)[1]
    monkeypatch.chdir(tmp_path)
    exec(command, {})
    found = import_network(tmp_path / "weights.pth", network)
    assert all(torch.equal(found[name], weight) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("content", [None, b"", b"no torch file", {"state_dict": {}}, {"network_weights": {}}])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "c.pth"
    if isinstance(content, dict):
        torch.save(content, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pth"):
        import_encoder(path)


def test_a_checkpoint_of_another_network_holds_no_encoder(tmp_path):
    torch.save({"network_weights": {"a.weight": torch.zeros(1)}}, tmp_path / "c.pth")
    with pytest.raises(DataError, match=r"found a\.weight, \.\.\."):
        import_encoder(tmp_path / "c.pth")


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = _network()
    network.heads[0].bias.data.fill_(torch.inf)
    with pytest.raises(DataError, match=r"decoder\.seg_layers\.0\.bias"):
        export_network(network, tmp_path / "c.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_network_has_not_is_refused():
    assert foreign_names("ups.0.bias") == ("decoder.transpconvs.0.bias",)
    with pytest.raises(ParameterError, match="a weight of NNUNet"):
        foreign_names("head.prototypes.weight")
