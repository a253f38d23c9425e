"""A path set that validates is whole: right shapes, finite, in range."""

from dataclasses import replace

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError


def test_a_whole_set_validates_to_itself():
    paths = random_paths()
    assert paths.validate() is paths


@pytest.mark.parametrize("field", ["a", "tau", "theta_t", "phi_t", "theta_r", "phi_r", "ue", "bs"])
def test_nan_is_refused_by_name(field):
    paths = random_paths()
    broken = getattr(paths, field).copy()
    broken.flat[0] = np.nan
    with pytest.raises(InputError, match=f"{field} holds NaN"):
        replace(paths, **{field: broken}).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": np.zeros((2, 2), np.float32)}, "tau has shape"),
        ({"a": np.zeros((0, 4), np.complex64)}, "neither empty"),
        ({"n_paths": np.full(6, 99, np.int16)}, "n_paths runs over"),
        ({"los": np.full(6, -1, np.int8)}, "los must be"),
        ({"tau": np.full((6, 4), -1e-9, np.float32)}, "negative delay"),
        ({"carrier_hz": 0.0}, "positive frequency"),
    ],
)
def test_a_broken_field_is_refused_with_its_limit(change, message):
    with pytest.raises(InputError, match=message):
        replace(random_paths(users=6, width=4), **change).validate()


def test_select_keeps_the_chosen_links_in_order():
    paths = random_paths(users=6)
    chosen = paths.select(np.array([4, 1]))
    np.testing.assert_array_equal(chosen.tau, paths.tau[[4, 1]])
    np.testing.assert_array_equal(chosen.ue, paths.ue[[4, 1]])
    assert chosen.links == 2


def test_facts_name_carrier_links_and_gain():
    facts = random_paths(users=6).to_dict()
    assert facts["links"] == 6
    assert facts["carrier_hz"] == 3.5e9
    assert facts["median_gain_db"] < 40
    assert "6 links" in random_paths(users=6).summary()
