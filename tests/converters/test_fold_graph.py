"""Time folds on any module exactly where it may, against SpikingJelly's own steps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_modules import eighths
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from spikeport_converters.fold import StaircaseNeuron
from spikeport_converters.fold_graph import fold_graph
from spikeport_converters.jetson import dense_graph
from spikeport_converters.marked_program import mark_neurons
from spikeport_converters.static_model import static_model
from spikeport_errors import UnsupportedError
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

FOLD, UNROLL, LOOP = "fold time", "unroll", "loop"


def node(kind: str, tau: float, soft: bool, mode: str) -> nn.Module:
    reset = None if soft else 0.0
    if kind == "if":
        return neuron.IFNode(v_reset=reset, step_mode=mode)
    if kind == "plif":
        return neuron.ParametricLIFNode(init_tau=tau, v_reset=reset, step_mode=mode)
    if kind == "ilif":
        counts = surrogate.MultiLevelSpikeCount(3)
        return neuron.ILIFNode(tau=4 / 3, v_threshold=0.5, surrogate_function=counts, step_mode=mode)
    return neuron.LIFNode(tau=tau, decay_input=kind == "lif", v_reset=reset, step_mode=mode)


READ_OUTS = {
    "mean": (lambda y: y.mean(0), FOLD),
    "sum": (lambda y: y.sum(0), FOLD),
    "sum over T": (lambda y: y.sum(0) / len(y), FOLD),
    "kept axis": (lambda y: y.mean(0, keepdim=True)[0], FOLD),
    "last step": (lambda y: y[-1], UNROLL),
    "every step": (lambda y: y, UNROLL),
    "largest": (lambda y: y.amax(0), UNROLL),
    "squares": (lambda y: (y * y).mean(0), UNROLL),
    "later function": (lambda y: y.relu().mean(0), UNROLL),
}


class Feed(nn.Module):
    """W2 of the spikes of W1 x: multi-step on a repeated input or current, or a loop of single steps."""

    def __init__(self, fire: nn.Module, steps: int, style: str, read_out: str, residual: bool):
        super().__init__()
        self.up, self.fire, self.down = nn.Linear(8, 16), fire, nn.Linear(16, 8)
        self.steps_, self.style, self.residual = steps, style, residual
        self.read_out = READ_OUTS[read_out][0]
        for linear in (self.up, self.down):  # eighths: no sum of them rounds, so equal means equal bits
            linear.weight.data, linear.bias.data = eighths(*linear.weight.shape), eighths(*linear.bias.shape)

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "loop":
            functional.reset_net(self)
            steps = [self.down(self.fire(self.up(x))) + (x if self.residual else 0) for _ in range(self.steps_)]
            return self.read_out(torch.stack(steps))
        if self.style == "input":
            x = x.unsqueeze(0).repeat(self.steps_, 1, 1)
            current = self.up(x)
        else:
            current = self.up(x).expand(self.steps_, *x.shape[:-1], 16)
        y = self.down(self.fire(current))
        return self.read_out(y + x if self.residual else y)


def both(model: nn.Module, x: Tensor):
    """What the module gives, what it gives without time, and what became of its neurons."""
    functional.reset_net(model)
    with torch.no_grad():
        own = model.eval()(x)
        functional.reset_net(model)
        folded = fold_graph(mark_neurons(model, x))
        got = folded.program(x)
    return own, got[0] if isinstance(got, tuple | list) else got, folded.foldings


@settings(max_examples=16, deadline=None)
@given(
    kind=st.sampled_from(("lif", "lif no decay", "plif", "if", "ilif")),
    tau=st.sampled_from((1.25, 2.0, 4.0)),
    soft=st.booleans(),
    steps=st.integers(1, 6),
    style=st.sampled_from(("input", "current", "loop")),
    read_out=st.sampled_from(sorted(READ_OUTS)),
    residual=st.booleans(),
)
def test_whatever_the_module_the_graph_computes_the_same_and_folds_where_it_may(
    kind, tau, soft, steps, style, read_out, residual
):
    model = Feed(node(kind, tau, soft, "s" if style == "loop" else "m"), steps, style, read_out, residual)
    own, got, (folding,) = both(model, eighths(3, 8))
    torch.testing.assert_close(got, own, rtol=1e-6, atol=1e-6)
    if steps > 1 and not (style == "loop" and read_out == "kept axis"):
        assert folding.rule == READ_OUTS[read_out][1], folding


def test_spike_counts_are_equal_bit_for_bit():
    model = Feed(node("lif", 2.0, False, "m"), 4, "current", "mean", False)
    own, got, _ = both(model, eighths(64, 8))
    assert torch.equal(own, got)


def test_sums_in_a_loop_fold_however_they_are_written():
    class Loop(nn.Module):
        def __init__(self, how: str):
            super().__init__()
            self.up, self.fire, self.down, self.how = nn.Linear(8, 8), neuron.LIFNode(), nn.Linear(8, 4), how

        def forward(self, x):
            total, steps = torch.zeros(x.shape[0], 4), []
            for _ in range(4):
                y = self.down(self.fire(self.up(x)))
                total += y
                steps.append(y)
            return {"in place": total, "sum": sum(steps) / 4, "mean": torch.stack(steps).mean(0)}[self.how]

    for how in ("in place", "sum", "mean"):
        torch.manual_seed(0)
        own, got, (folding,) = both(Loop(how), eighths(5, 8))
        torch.testing.assert_close(got, own)
        assert folding.rule == FOLD, (how, folding)


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(), layer.AvgPool2d(2), layer.Conv2d(4, 4, 3, padding=1),
            neuron.LIFNode(), layer.Flatten(), layer.Linear(16, 3),
        )  # fmt: skip
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)


def test_a_neuron_whose_current_changes_is_unrolled_and_so_is_what_drives_it():
    torch.manual_seed(0)
    own, got, foldings = both(TwoLayers(), 4 * torch.rand(2, 2, 4, 4))
    torch.testing.assert_close(got, own)
    assert [f.rule for f in foldings] == [UNROLL, UNROLL]
    assert "its single steps drive net.4" in foldings[0].reason
    assert "not proved constant" in foldings[1].reason


def test_a_time_embedding_makes_the_current_change():
    class Embedded(Feed):
        def forward(self, x):
            late = torch.arange(4.0)[:, None, None]
            return self.down(self.fire(self.up(x).expand(4, -1, -1) + late)).mean(0)

    own, got, (folding,) = both(Embedded(node("lif", 2.0, False, "m"), 4, "", "mean", False), eighths(3, 8))
    torch.testing.assert_close(got, own)
    assert folding.rule == UNROLL


def test_a_loop_with_feedback_keeps_its_steps():
    class Feedback(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.fire = nn.Linear(8, 8), neuron.LIFNode()

        def forward(self, x):
            spikes = torch.zeros_like(x)
            for _ in range(4):
                spikes = self.fire(self.up(x) + spikes)
            return spikes

    own, got, foldings = both(Feedback(), eighths(3, 8))
    assert torch.equal(own, got)
    assert foldings == ()


def test_one_neuron_in_two_places_is_folded_in_both():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.fire = nn.Linear(8, 8), neuron.LIFNode(step_mode="m")

        def forward(self, x):
            for _ in range(2):
                self.fire.reset()
                x = self.fire(self.up(x).expand(4, *x.shape)).mean(0)
            return x

    torch.manual_seed(0)
    own, got, foldings = both(Shared(), 4 * torch.rand(3, 8))
    torch.testing.assert_close(got, own)
    assert [(f.path, f.rule) for f in foldings] == [("fire", FOLD), ("fire_2", FOLD)]


def test_a_multi_step_neuron_called_twice_without_a_reset_is_refused():
    class Twice(Feed):
        def forward(self, x):
            current = self.up(x).expand(4, -1, -1)
            return self.fire(self.fire(current)).mean(0)

    with pytest.raises(UnsupportedError, match="called 2 times without a reset"):
        both(Twice(node("lif", 2.0, False, "m"), 4, "", "mean", False), eighths(3, 8))


def test_many_steps_are_folded_and_else_one_loop():
    long = Feed(node("lif", 2.0, False, "m"), 40, "current", "mean", False)
    assert both(long, eighths(3, 8))[2][0].rule == FOLD
    long.read_out = READ_OUTS["last step"][0]
    own, got, (folding,) = both(long, eighths(3, 8))
    torch.testing.assert_close(got, own)
    assert folding.rule == LOOP
    assert "its 40 steps are one loop" in folding.reason


def test_one_staircase_stands_for_the_steps_and_nothing_is_repeated():
    model = Feed(node("lif", 2.0, False, "m"), 4, "input", "mean", False)
    program = static_model(model, eighths(3, 8)).program
    assert [type(m).__name__ for m in program.modules()].count(StaircaseNeuron.__name__) == 1
    names = {str(n.target) for n in program.graph.nodes}
    assert not {name for name in names if "expand" in name or "repeat" in name or "mean" in name}


@pytest.mark.parametrize(("steps", "kind"), [(3, "if"), (5, "lif"), (6, "if"), (7, "plif")])
def test_staircases_of_any_number_of_steps_make_a_legal_graph(steps, kind, tmp_path):
    model = Feed(node(kind, 2.0, False, "m"), steps, "current", "mean", False).eval()
    x = eighths(5, 8)
    graph = dense_graph(model, x.numpy(), "fp32")[1]
    onnx.save(graph, tmp_path / "m.onnx")
    with torch.no_grad():
        want = model(x).numpy()
    got = OnnxRuntime().run(tmp_path / "m.onnx", {"patches": x.numpy()})["prediction"]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_a_write_into_one_step_is_seen():
    class Silenced(Feed):
        def forward(self, x):
            spikes = self.fire(self.up(x).expand(4, -1, -1)).clone()
            spikes[0] = 0
            return spikes.mean(0)

    own, got, (folding,) = both(Silenced(node("lif", 2.0, False, "m"), 4, "", "mean", False), eighths(3, 8))
    torch.testing.assert_close(got, own)
    assert folding.rule == UNROLL


def test_a_dropout_of_spikingjelly_is_nothing_in_a_graph():
    class Dropped(Feed):
        def __init__(self):
            super().__init__(node("lif", 2.0, False, "m"), 4, "current", "mean", False)
            self.drop = layer.Dropout(0.5, step_mode="m")

        def forward(self, x):
            return self.drop(self.fire(self.up(x).expand(4, -1, -1))).mean(0)

    own, got, (folding,) = both(Dropped().eval(), eighths(3, 8))
    torch.testing.assert_close(got, own)
    assert folding.rule == FOLD


@pytest.mark.parametrize("name", ["v", "v_seq"])
def test_a_forward_that_reads_a_state_is_refused_by_the_neurons_name(name):
    class Reading(Feed):
        def forward(self, x):
            return self.fire(self.up(x).expand(4, -1, -1)).mean(0) + self.fire.v_threshold + getattr(self.fire, name)

    with pytest.raises(UnsupportedError, match=f"reads `{name}` of fire.*compute from those"):
        static_model(Reading(node("lif", 2.0, False, "m"), 4, "", "mean", False), eighths(3, 8))


def test_a_forward_that_draws_random_numbers_is_refused():
    class Encoding(Feed):
        def forward(self, x):
            return self.fire((torch.rand(4, *x.shape) < x.sigmoid()).float()).mean(0)

    with pytest.raises(UnsupportedError, match=r"random numbers \(`rand`\): draw them outside"):
        static_model(Encoding(node("lif", 2.0, False, "m"), 4, "", "mean", False), eighths(3, 8))


def test_a_forward_that_depends_on_values_is_refused_and_prints_nothing(capfd):
    class Choosing(Feed):
        def forward(self, x):
            return self.fire(self.up(-x if x.sum() > 0 else x).expand(4, -1, -1)).mean(0)

    with pytest.raises(UnsupportedError, match="depend on shapes, not on values"):
        static_model(Choosing(node("lif", 2.0, False, "m"), 4, "", "mean", False), eighths(3, 8))
    assert capfd.readouterr() == ("", "")


def test_the_module_is_left_as_it_was():
    model = Feed(node("lif", 2.0, False, "m"), 4, "input", "mean", False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    static_model(model, eighths(3, 8))
    assert isinstance(model.fire, neuron.LIFNode)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
