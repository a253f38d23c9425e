"""SpikingJelly (Apache-2.0) as a runtime of NIR islands."""

from __future__ import annotations

from ..runtime import Availability, installed
from .nir_runtime import NirRuntime


class SpikingJelly(NirRuntime):
    """SpikingJelly 2.0.0, through its own importer `nir_exchange.import_from_nir`."""

    name = "spikingjelly"

    def available(self) -> Availability:
        """Whether spikingjelly is installed, and which version."""
        return installed("spikingjelly", tested="2.0.0", extra="sim")
