"""Training takes one pass over the current instead of T: the same rates bit for bit, the same surrogate gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.neuron import SpikingNeuron
from spikeport_toolkit.models.rate import Rate

LIF = st.builds(
    NeuronConfig,
    st.just("lif"),
    steps=st.integers(1, 9),
    tau=st.sampled_from((1.5, 2.0, 10 / 3, 5.0)),
    decay_input=st.booleans(),
    v_threshold=st.sampled_from((0.5, 1.0, 1.3)),
    v_reset=st.sampled_from((None, 0.0, -0.5)),
)
ILIF = st.builds(
    NeuronConfig,
    st.just("ilif"),
    steps=st.integers(1, 4),
    levels=st.integers(1, 8),
    tau=st.sampled_from((4 / 3, 2.0)),
    v_threshold=st.sampled_from((0.5, 1.0)),
    v_reset=st.none(),
)


def through_spikingjelly(neuron: NeuronConfig, current: torch.Tensor, weight: torch.Tensor):
    x = current.clone().requires_grad_()
    rate = SpikingNeuron(neuron).spikes(x).sum(0) / (neuron.steps * neuron.levels)
    (rate * weight).sum().backward()
    return rate.detach(), x.grad


def through_rate(neuron: NeuronConfig, current: torch.Tensor, weight: torch.Tensor):
    x = current.clone().requires_grad_()
    rate = Rate.apply(x, neuron)
    (rate * weight).sum().backward()
    return rate.detach(), x.grad


@settings(max_examples=60, deadline=None)
@given(neuron=st.one_of(LIF, ILIF), seed=st.integers(0, 2**31))
def test_rate_is_that_of_spikingjelly_bit_for_bit_and_so_is_the_gradient_to_float_tolerance(neuron, seed):
    torch.manual_seed(seed)
    current = torch.cat((torch.randn(400) * 2, torch.arange(-24, 25) / 8))  # the last ones meet thresholds exactly
    weight = torch.randn_like(current)
    want, want_grad = through_spikingjelly(neuron, current, weight)
    got, grad = through_rate(neuron, current, weight)
    assert torch.equal(got, want)
    torch.testing.assert_close(grad, want_grad, rtol=1e-5, atol=1e-6)


def test_a_current_longer_than_one_chunk_and_of_any_shape_gives_the_same():
    torch.manual_seed(0)
    neuron = NeuronConfig("lif", steps=4)
    current = torch.randn(3, 70_001).transpose(0, 1)
    want, want_grad = through_spikingjelly(neuron, current, torch.ones_like(current))
    got, grad = through_rate(neuron, current, torch.ones_like(current))
    assert got.shape == current.shape
    assert torch.equal(got, want)
    torch.testing.assert_close(grad, want_grad, rtol=1e-5, atol=1e-6)


def test_an_empty_current_has_an_empty_rate():
    x = torch.zeros(0, 4, requires_grad=True)
    Rate.apply(x, NeuronConfig("lif", steps=4)).sum().backward()
    assert x.grad.shape == (0, 4)


def test_the_module_gives_the_same_rate_with_and_without_a_gradient():
    torch.manual_seed(0)
    module, current = SpikingNeuron(NeuronConfig("lif_soft", steps=4, v_reset=None)), torch.randn(5, 7, 11) * 2
    assert torch.equal(module(current), module(current.clone().requires_grad_()).detach())


def test_half_precision_training_spikes_in_single_precision():
    torch.manual_seed(0)
    module, current = SpikingNeuron(NeuronConfig("lif", steps=4)), torch.randn(64, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rate = module(current.requires_grad_())
        rate.float().sum().backward()
    assert torch.equal(rate.detach(), module(current.detach().float()))
    assert current.grad.dtype == torch.bfloat16


def test_a_second_derivative_is_refused_rather_than_wrong():
    x = torch.randn(8, requires_grad=True)
    (grad,) = torch.autograd.grad(Rate.apply(x, NeuronConfig("lif", steps=4)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
