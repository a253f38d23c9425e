"""A reference in numpy that runs NIR islands of every profile, without torch and without a simulator."""

from __future__ import annotations

from ..runtime import Availability, installed
from .nir_runtime import NirRuntime


class Reference(NirRuntime):
    """SpikingJelly's neuron in float32 numpy, bit for bit; the matrix products are numpy's, which round differently."""

    name = "reference"

    def available(self) -> Availability:
        """Always, with the core dependencies."""
        return installed("nir", tested="1.0.8", extra="sim")
