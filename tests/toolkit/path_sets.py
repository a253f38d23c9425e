"""Random path sets for the tests of the channel room."""

from typing import Any

import numpy as np

from spikeport_toolkit.data.schema import PathSet


def random_paths(users: int = 8, width: int = 5, seed: int = 0, **fields: Any) -> PathSet:
    """A valid set with 1 to `width` paths a link; `fields` replace what is drawn."""
    rng = np.random.default_rng(seed)
    n_paths = rng.integers(1, width + 1, users)
    n_paths[0] = width
    mask = np.arange(width) < n_paths[:, None]

    def uniform(low: float, high: float) -> np.ndarray:
        return np.where(mask, rng.uniform(low, high, mask.shape), 0).astype(np.float32)

    gain = np.where(mask, rng.standard_normal(mask.shape) + 1j * rng.standard_normal(mask.shape), 0)
    drawn: dict[str, Any] = {
        "a": gain.astype(np.complex64),
        "tau": uniform(1e-7, 1.5e-6),
        "theta_t": uniform(0, np.pi),
        "phi_t": uniform(-np.pi, np.pi),
        "theta_r": uniform(0, np.pi),
        "phi_r": uniform(-np.pi, np.pi),
        "n_paths": n_paths.astype(np.int16),
        "los": rng.integers(0, 2, users).astype(np.int8),
        "ue": rng.uniform(-100, 100, (users, 3)).astype(np.float32),
        "bs": np.array([0, 0, 20], np.float32),
        "carrier_hz": 3.5e9,
        "city": "test",
        "station": 0,
    }
    return PathSet(**drawn | fields)
