"""LWM's heads: the residual 1-D convolutional network has the published sizes, and both classifiers learn."""

import numpy as np
import pytest
import torch

from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.res1dcnn import Res1DCNN
from spikeport_toolkit.tasks.los import Fcn
from spikeport_toolkit.tasks.probe import FineTuned, network_probe, ridge_probe
from spikeport_toolkit.training.adaptation import Adaptation


@pytest.mark.parametrize(("beams", "parameters"), [(16, 497_200), (64, 503_392), (256, 528_160)])
def test_the_head_has_the_published_number_of_parameters(beams: int, parameters: int) -> None:
    head = Res1DCNN(64, beams)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert head.eval()(torch.randn(2, 128, 64)).shape == (2, beams)


@pytest.mark.parametrize("tokens", [1, 2, 128])
def test_any_length_of_sequence_is_taken(tokens: int) -> None:
    assert Res1DCNN(16, 4).eval()(torch.randn(3, tokens, 16)).shape == (3, 4)


@pytest.mark.parametrize("kind", ["res1dcnn", "fcn", "ridge"])
def test_each_classifier_learns_what_can_be_learned_and_repeats_itself(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    features = rng.normal(size=(120, 8, 4)).astype(np.float32)
    features[labels == 1, :, 0] += 3
    features[labels == 2, :, 1] += 3
    fit = {
        "res1dcnn": network_probe(lambda shape, classes: Res1DCNN(shape[-1], classes), steps=40),
        "fcn": network_probe(Fcn, steps=40),
        "ridge": ridge_probe,
    }[kind]
    guesses = [fit(features[:80], labels[:80], features[80:], 3, 5) for _ in range(2)]
    assert (guesses[0] == labels[80:]).mean() > 0.9
    assert np.array_equal(guesses[0], guesses[1]), "the seed fixes weights, batches and dropout"


def test_last_layers_of_an_encoder_are_fine_tuned_on_a_copy() -> None:
    model = load_model("lwm-1.0-spiking-relu")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tokens = np.random.default_rng(0).normal(size=(8, 128, 16)).astype(np.float32)
    made: list[FineTuned] = []

    def make(shape: tuple[int, ...], classes: int) -> FineTuned:
        made.append(FineTuned(model, Adaptation("last-k", layers=1), classes))
        return made[-1]

    fit = network_probe(make, steps=2, standardise=False)
    assert set(fit(tokens[:6], np.arange(6) % 2, tokens[6:], 2, 0)) <= {0, 1}
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "the model itself is left as it was"
    tuned = made[0].encoder.state_dict()
    changed = {key.rsplit(".", 2)[0] for key in before if not torch.equal(before[key], tuned[key])}
    assert changed
    assert {key for key in changed if not key.startswith("layers.11")} == set(), "frozen layers keep their statistics"
