from __future__ import annotations

import numpy as np
import pytest

from spikeport_profiles.montecarlo import DRAWS, Draws, log_triangular, quantity, total
from spikeport_targets.card import load_card


def test_nominal_comes_first_and_draws_stay_inside_the_range():
    values = log_triangular("x", 1e-12, 3e-12, 9e-12)
    assert values.shape == (1 + DRAWS,)
    assert values[0] == 3e-12
    assert values[1:].min() >= 1e-12
    assert values[1:].max() <= 9e-12
    assert np.exp(np.log(values[1:]).mean()) == pytest.approx(3e-12, rel=0.1)


def test_a_constant_draws_the_same_in_every_run_and_each_its_own_stream():
    assert np.array_equal(log_triangular("x", 1, 2, 3), log_triangular("x", 1, 2, 3))
    assert not np.array_equal(log_triangular("x", 1, 2, 3), log_triangular("y", 1, 2, 3))


def test_a_range_of_no_width_and_one_that_starts_at_zero_are_allowed():
    assert np.ptp(log_triangular("x", 0, 0, 0)) == 0
    assert log_triangular("x", 0, 1, 2)[1:].min() >= 0


def test_what_nobody_published_makes_the_sum_unknown():
    draws = Draws(load_card("loihi2"), "embedded")
    assert draws("e_spike_out") is None
    assert total(draws("e_synop"), draws("e_spike_out")) is None
    assert draws.unknown()[0].name == "e_spike_out"
    assert quantity(None, "J", ()) is None


def test_a_quantity_is_p10_nominal_p90_with_the_sources_of_its_constants():
    draws = Draws(load_card("loihi2"))
    found = quantity(draws("e_synop"), "J", draws.record())
    assert found is not None
    assert (found.nominal, found.kind) == (24.5e-12, "estimated")
    assert 15e-12 < found.low < 24.5e-12 < found.high < 36e-12
    assert any("PilotNet" in source for source in found.source)
