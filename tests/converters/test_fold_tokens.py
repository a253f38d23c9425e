"""A free number of tokens: one graph for a range of them, held at its ends, or one error that says what can vary."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from small_models import random_patches, small_model
from spikingjelly.activation_based import neuron
from torch import nn

from spikeport.cli.app import run
from spikeport_converters.export import check, export
from spikeport_converters.ladder import PROFILE, climb
from spikeport_converters.onnx_graph import INPUT, OUTPUT
from spikeport_converters.precision import PRESETS
from spikeport_errors import UnsupportedError, UsageError
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime
from spikeport_toolkit.models.load import load_model

ORIN, CPU = load_card("jetson-orin-nano"), load_card("cpu-onnxruntime")
SPAN = (1, 6, 20)


class Encoder(nn.Module):
    """Attention and a spiking feed-forward part; `where` says how positions are found."""

    def __init__(self, where: str = "sliced", example=(5, 6, 16)):
        super().__init__()
        torch.manual_seed(0)
        self.where, self.places = where, nn.Parameter(0.3 * torch.randn(24, 16))
        self.attend, self.norm = nn.MultiheadAttention(16, 2, batch_first=True), nn.LayerNorm(16)
        self.up, self.fire, self.down = nn.Linear(16, 32), neuron.LIFNode(step_mode="m"), nn.Linear(32, 16)
        self.example_input = torch.randn(example)

    def forward(self, x):
        if self.where == "sliced":
            x = x + self.places[: x.shape[1]]
        elif self.where == "computed":
            x = x + torch.sin(0.1 * torch.arange(x.shape[1]))[:, None]
        else:
            x = x + self.places[:6]
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return x + self.down(self.fire(2 * self.up(self.norm(x)).unsqueeze(0).repeat(4, 1, 1, 1)).mean(0))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An encoder of sliced positions, exported for 1 to 20 tokens with everything that the ladder has."""
    model = Encoder().eval()
    folder = tmp_path_factory.mktemp("tokens") / "b"
    inputs = model.example_input.numpy()
    return model, export(model, ORIN, "fp32", folder, inputs, trained=True, tokens=SPAN, compilers=True)


def test_the_profile_spans_batch_and_tokens_and_the_ladder_runs_its_ends(made):
    _, bundle = made
    assert bundle.ok, bundle.summary()
    profile = bundle.manifest["dense"]["profile"]
    assert profile == {INPUT: [[1, 1, 16], [8, 6, 16], [32, 20, 16]]}
    (rung,) = (r for r in bundle.manifest["ladder"] if r["name"] == PROFILE)
    assert "run at each" in rung["detail"]
    (row,) = (r for r in bundle.parity.rows if r.name == "output, tokens")
    assert row.detail == "at 1 and 20 tokens"
    assert check(bundle.folder)


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (3, 3), (2, 7), (7, 20)])
def test_the_graph_gives_what_the_model_gives_at_any_number_of_tokens(made, batch, tokens):
    model, bundle = made
    x = torch.randn(batch, tokens, 16, generator=torch.Generator().manual_seed(tokens))
    with torch.no_grad():
        want = model(x).numpy()
    got = OnnxRuntime().run(bundle.folder / "dense/model.onnx", {INPUT: x.numpy()})[OUTPUT]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_runner_builds_for_the_profile_and_verifies_its_ends(made):
    _, bundle = made
    run = [sys.executable, "run.py"]
    lines = subprocess.run([*run, "--trtexec"], cwd=bundle.folder, capture_output=True, text=True, check=True).stdout
    assert "--minShapes=patches:1x1x16 --optShapes=patches:8x6x16 --maxShapes=patches:32x20x16" in lines
    done = subprocess.run([*run, "--runtime", "onnxruntime"], cwd=bundle.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_computed_positions_and_a_batch_as_large_as_the_tokens_vary_too(precision, tmp_path):
    model = Encoder("computed", (6, 6, 16)).eval()
    bundle = export(
        model, ORIN, precision, tmp_path / "b", model.example_input.numpy(), trained=True, tokens=(2, 6, 40)
    )
    assert bundle.ok, bundle.summary()
    dims = onnx.load(bundle.folder / "dense/model.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param for d in dims] == ["batch", "tokens", ""]


@pytest.mark.parametrize(
    ("shapes", "layer", "what", "remedy"),
    [
        ([[1, 1, 16], [8, 6, 16], [32, 30, 16]], "Add", "2x30x16 onnxruntime fails", "range that forward takes"),
        ([[1, 7, 16], [8, 6, 16], [32, 20, 16]], INPUT, "axis 1 is 7 at least, 6 at best", "least <= best"),
        ([[1, 6, 16], [8, 6, 16], [32, 20, 17]], INPUT, "axis 2 is 16 in the graph", "--tokens MIN:OPT:MAX"),
    ],
    ids=["more than the table", "order", "another axis"],
)
def test_a_wrong_token_profile_stops_at_its_rung(made, shapes, layer, what, remedy):
    path = made[1].folder / "dense/model.onnx"
    rung = climb(path, ORIN, PRESETS["fp32"], shapes={INPUT: shapes}).stopped
    assert (rung.name, rung.layer) == (PROFILE, layer)
    assert what in rung.detail
    assert remedy in rung.remedy


def test_a_token_profile_for_a_graph_of_one_number_stops_and_says_how_to_export_it(tmp_path):
    model = Encoder().eval()
    bundle = export(model, CPU, "fp32", tmp_path / "b", model.example_input.numpy(), trained=True)
    shapes = {INPUT: [[1, 2, 16], [8, 6, 16], [32, 20, 16]]}
    rung = climb(bundle.folder / "dense/model.onnx", CPU, PRESETS["fp32"], shapes=shapes).stopped
    assert rung.name == PROFILE
    assert "axis 1 is 6 in the graph" in rung.detail
    assert "--tokens" in rung.remedy


@pytest.mark.parametrize(
    ("make", "tokens", "what"),
    [
        (lambda: Encoder("one grid"), SPAN, "takes 6 tokens and no other number, as with a table"),
        (Encoder, (1, 6, 25), "at most 24 tokens, and --tokens asks for 25: give MAX 24"),
        (Encoder, (8, 9, 20), "the golden input has 6 tokens, outside"),
        (lambda: load_model("lwm-1.0-code"), (1, 64, 129), "at most 128 tokens"),
    ],
    ids=["fixed", "above the table", "golden outside", "lwm"],
)
def test_what_cannot_vary_is_one_error_and_nothing_is_written(make, tokens, what, tmp_path):
    model = make().eval()
    inputs = getattr(model, "example_input", torch.randn(2, 128, 16)).numpy()
    with pytest.raises(UnsupportedError, match=what):
        export(model, CPU, "fp32", tmp_path / "b", inputs, tokens=tokens)
    assert not list(tmp_path.iterdir())


def test_a_grid_of_one_model_of_ours_is_refused_by_name(tmp_path):
    model = small_model()
    with pytest.raises(UnsupportedError, match="ChannelPredictor takes 12 tokens and no other number"):
        export(model, CPU, "fp32", tmp_path / "b", random_patches(model, 2), tokens=(1, 12, 24))


@pytest.mark.parametrize("tokens", [(0, 1, 2), (3, 2, 4), (1, 2), (1, 2, 10**9)])
def test_a_range_that_is_none_is_refused(tokens, tmp_path):
    model = Encoder()
    with pytest.raises(UsageError, match="MIN:OPT:MAX"):
        export(model, CPU, "fp32", tmp_path / "b", model.example_input.numpy(), tokens=tokens)
    with pytest.raises(UsageError, match="one dense graph"):
        export(model, load_card("norse"), "fp32", tmp_path / "b", model.example_input.numpy(), tokens=SPAN)


def test_the_command_line_takes_a_range(tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        "import torch\n\n\ndef net():\n    torch.manual_seed(0)\n    net = torch.nn.Sequential(torch.nn.LayerNorm(8),"
        " torch.nn.Linear(8, 4))\n    net.example_input = torch.randn(4, 5, 8)\n    return net.eval()\n"
    )
    command = ["export", f"{tmp_path / 'own.py'}:net", "--target", "cpu-onnxruntime", "--out", str(tmp_path / "b")]
    assert run([*command, "--tokens", "2-9"]) == 2
    assert "MIN:OPT:MAX" in capsys.readouterr().err
    assert run([*command, "--tokens", "2:5:9"]) == 0
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert manifest["dense"]["profile"] == {INPUT: [[1, 2, 8], [8, 5, 8], [32, 9, 8]]}
