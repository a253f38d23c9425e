"""snnTorch (MIT) as a runtime of NIR islands."""

from __future__ import annotations

from ..runtime import Availability, installed
from .nir_runtime import NirRuntime


class SnnTorch(NirRuntime):
    """snnTorch 1.0.0, through its own importer `snntorch.import_nir`."""

    name = "snntorch"

    def available(self) -> Availability:
        """Whether snntorch is installed, and which version."""
        return installed("snntorch", tested="1.0.0", extra="sim")
