"""sinabs (Apache-2.0) as a runtime of NIR islands."""

from __future__ import annotations

from ..runtime import Availability, installed
from .nir_runtime import NirRuntime


class Sinabs(NirRuntime):
    """sinabs 3.1.3, through its own importer `sinabs.nir.from_nir`, with spike and reset functions set after import."""

    name = "sinabs"

    def available(self) -> Availability:
        """Whether sinabs is installed, and which version."""
        return installed("sinabs", tested="3.1.3", extra="sim")
