"""Weights are shared between a model and what is made of it: no export changes one bit of the model."""

from __future__ import annotations

from itertools import cycle

import pytest
import torch
from small_models import random_patches, small_model

from spikeport_converters.dense_segments import dense_segments
from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.islands import find_islands
from spikeport_converters.jetson import dense_graph
from spikeport_converters.nir_profiles import profile_of
from spikeport_converters.precision import PRESETS
from spikeport_converters.quantize_aware import quantize_aware
from spikeport_targets.card import load_card


def fine_tuned(model, patches):
    reference = fold_batchnorm(model)
    before = state(reference)
    tuned = quantize_aware(reference, PRESETS["int8"], cycle([patches]), 1, 1e-2)
    assert same(state(reference), before)
    assert not same(state(tuned), before)  # so that something could have leaked


def cut_for_a_simulator_with_a_gain(model, patches):
    folded, profile = fold_batchnorm(model), profile_of(load_card("norse"))
    islands = find_islands(folded)
    assert any(i.takes == "currents" and profile.gain(i.neuron) != 1 for i in islands)
    dense_segments(folded, islands, torch.from_numpy(patches), profile)


WAYS = {
    "fp32": lambda model, patches: dense_graph(fold_batchnorm(model), patches, "fp32", pad_heads=32),
    "fp16": lambda model, patches: dense_graph(fold_batchnorm(model), patches, "fp16"),
    "int8": lambda model, patches: dense_graph(fold_batchnorm(model), patches, "int8"),
    "qat": fine_tuned,
    "nir": cut_for_a_simulator_with_a_gain,
}


def state(model):
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: (value.dtype, value.detach().clone()) for name, value in tensors.items()}


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name][0] == other[name][0] and torch.equal(one[name][1], other[name][1]) for name in one
    )


@pytest.mark.parametrize(("norm", "way"), [("bn", way) for way in WAYS if way != "nir"] + [("ln", "nir")])
def test_an_export_leaves_every_weight_as_it_was(way, norm):
    model = small_model(norm=norm)
    before = state(model)
    WAYS[way](model, random_patches(model, 4))
    assert same(state(model), before)
