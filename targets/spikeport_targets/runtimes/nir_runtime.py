"""What the runtimes of NIR islands share: the bundle's own runner, with spikeport's errors around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spikeport_errors import InputError

from ..runtime import Array, Availability, Outputs, check_arrays, require
from . import nir_runner


class NirRuntime:
    """A simulator that runs NIR islands; subclasses name it and say where it comes from."""

    name = ""
    route = "nir"

    def available(self) -> Availability:
        """Whether the simulator is installed."""
        raise NotImplementedError

    def run(self, artefact: Path, inputs: Mapping[str, Array]) -> Outputs:
        """Run the island on {'input': float32 [batch, in]}, in one batch.

        Gives {'spikes': uint8 [time, batch, hidden], 'output': float32 [batch, out], the mean over time}. Raises
        InputError for a damaged file, another simulator's profile or unfit inputs, MissingDependencyError without
        the simulator.
        """
        require(self)
        try:
            island = nir_runner.read_island(Path(artefact))
            check_arrays(inputs, {"input": (None, island.inputs)}, str(artefact))
            values = nir_runner.check_input(island, np.ascontiguousarray(inputs["input"]))
            return Outputs(nir_runner.RUNNERS[self.name](island, values))
        except nir_runner.IslandError as error:
            raise InputError(str(error)) from None
