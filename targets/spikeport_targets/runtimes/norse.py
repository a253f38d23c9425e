"""Norse (LGPL-3.0) as a runtime of NIR islands."""

from __future__ import annotations

from ..runtime import Availability, installed
from .nir_runtime import NirRuntime


class Norse(NirRuntime):
    """Norse 1.1.0, through its own importer `norse.torch.from_nir`, with the reset set after import."""

    name = "norse"

    def available(self) -> Availability:
        """Whether norse is installed, and which version."""
        return installed("norse", tested="1.1.0", extra="sim")
