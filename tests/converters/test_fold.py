"""Folding is exact: the staircase is what SpikingJelly's own loop computes, on every float32 current."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import random_patches, small_model
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from spikeport_converters.fold import (
    Staircase,
    StaircaseNeuron,
    fold_batchnorm,
    fold_time,
    node_staircase,
    spike_counts,
    staircase,
)
from spikeport_errors import UnsupportedError
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.neuron import SpikingNeuron

KINDS = ("lif hard", "lif hard decay", "lif soft", "lif soft decay", "plif", "if hard", "if soft", "ilif")
CONFIGURATIONS = [
    *itertools.product(KINDS, (1.25, 4 / 3, 2.0, 3.0, 10.0), (1, 2, 4, 8), (1.0,), (0.0,)),
    *itertools.product(KINDS, (2.0,), (4,), (0.5, 0.7, 3.0), (-0.5, 0.25)),
]


def node(kind: str, tau: float, threshold: float, v_reset: float) -> Any:
    rest = None if "soft" in kind else v_reset
    if kind == "ilif":
        counts = surrogate.MultiLevelSpikeCount(4)
        return neuron.ILIFNode(tau=tau, v_threshold=threshold, surrogate_function=counts, step_mode="m")
    if kind == "plif":
        return neuron.ParametricLIFNode(init_tau=tau, v_threshold=threshold, v_reset=rest, step_mode="m")
    if kind.startswith("if"):
        return neuron.IFNode(v_threshold=threshold, v_reset=rest, step_mode="m")
    decay = "decay" in kind
    return neuron.LIFNode(tau=tau, decay_input=decay, v_threshold=threshold, v_reset=rest, step_mode="m")


def mismatches(tested: Any, stairs: Staircase, currents: np.ndarray) -> int:
    with torch.no_grad():
        own = spike_counts(tested, stairs.steps, torch.from_numpy(currents)).numpy()
        ours = StaircaseNeuron(stairs).counts(torch.from_numpy(currents)).numpy()
    return int((own != ours).sum() + (own != stairs.counts(currents)).sum())


def at_and_beside(thresholds: tuple[float, ...]) -> np.ndarray:
    at = np.array(thresholds, np.float32)
    up, down = np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))
    return np.concatenate((at, up, down))


def test_there_are_at_least_a_hundred_configurations():
    assert len(CONFIGURATIONS) >= 100


@pytest.mark.parametrize(("kind", "tau", "steps", "threshold", "v_reset"), CONFIGURATIONS)
def test_the_staircase_equals_spikingjelly_at_and_beside_every_threshold(kind, tau, steps, threshold, v_reset):
    tested, levels = node(kind, tau, threshold, v_reset), 4 if kind == "ilif" else 1
    found = node_staircase(tested, steps, levels)
    random = np.random.default_rng(0).normal(0, 2 * threshold, 20_000).astype(np.float32)
    assert mismatches(tested, found, np.concatenate((at_and_beside(found.thresholds), random))) == 0


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    tau=st.floats(1.0625, 50, width=32),
    steps=st.integers(1, 12),
    threshold=st.floats(0.0078125, 100, width=32),
    currents=st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=50),
)
def test_any_leak_threshold_and_current_give_the_same_count(kind, tau, steps, threshold, currents):
    tested, levels = node(kind, tau, threshold, 0.0), 4 if kind == "ilif" else 1
    assert mismatches(tested, node_staircase(tested, steps, levels), np.array(currents, np.float32)) == 0


def test_the_published_thresholds_of_the_default_neuron_come_out():
    found = node_staircase(node("lif hard decay", 2.0, 1.0, 0.0), 4)
    np.testing.assert_allclose(found.thresholds, (16 / 15, 4 / 3, 2.0), rtol=1e-7)
    assert found.increments == (1, 1, 2)


def test_a_single_step_node_has_the_staircase_of_its_multi_step_twin():
    single, multi = (node("lif hard", 2.0, 1.0, 0.0) for _ in range(2))
    single.step_mode = "s"
    assert node_staircase(single, 4) == node_staircase(multi, 4)


def test_finding_a_staircase_leaves_no_state_in_the_neuron():
    spiking = SpikingNeuron(NeuronConfig("lif", steps=4))
    staircase(spiking)
    assert isinstance(spiking.node.v, float)


class FallingNode(nn.Module):
    step_mode = "m"

    def reset(self) -> None:
        pass

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return ((current > 1) & (current < 2)).float()


class AlwaysOnNode(FallingNode):
    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(current)


@pytest.mark.parametrize("broken", [FallingNode(), AlwaysOnNode()])
def test_what_is_not_a_rising_staircase_is_refused(broken):
    with pytest.raises(UnsupportedError, match="keep the neuron unrolled"):
        node_staircase(broken, 4)


@pytest.mark.parametrize(
    "config",
    [
        NeuronConfig("lif", steps=4),
        NeuronConfig("lif_soft", steps=4, v_reset=None),
        NeuronConfig("lif_paper", steps=4, decay_input=True),
        NeuronConfig("ilif", steps=1, levels=4, tau=4 / 3, v_threshold=0.5, v_reset=None),
    ],
    ids=lambda c: c.kind,
)
def test_a_model_with_time_folded_equals_the_reference_bit_for_bit(config):
    reference = fold_batchnorm(small_model(config))
    patches = torch.from_numpy(random_patches(reference, 8))
    with torch.no_grad():
        assert torch.equal(fold_time(reference)(patches), reference(patches))


def test_folding_batchnorm_keeps_the_function_and_removes_the_layer():
    model = small_model(NeuronConfig("relu"))
    folded = fold_batchnorm(model)
    patches = torch.from_numpy(random_patches(model, 4))
    assert not any(isinstance(m, nn.BatchNorm1d) for m in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(patches), model(patches), rtol=1e-4, atol=1e-5)


def test_folding_leaves_the_given_model_as_it_was():
    model = small_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fold_time(fold_batchnorm(model))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert any(isinstance(m, SpikingNeuron) for m in model.modules())
