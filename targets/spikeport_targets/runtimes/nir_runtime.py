"""What the runtimes of NIR islands share: the bundle's own runner, with spikeport's errors around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spikeport_errors import InputError

from ..runtime import Array, Availability, Outputs, require
from . import nir_runner


class NirRuntime:
    """A simulator that runs NIR islands; subclasses name it, as its module in `simulators`, and say where it is."""

    name = ""
    route = "nir"

    def available(self) -> Availability:
        """Whether the simulator is installed."""
        raise NotImplementedError

    def run(self, artefact: Path, inputs: Mapping[str, Array]) -> Outputs:
        """Run the island on {'input': float32 [batch, *in], or [steps, batch, *in]}, in one batch.

        Gives {'spikes': uint8 [steps, batch, neurons], all spiking nodes in topological order, 'output': float32
        [batch, *out], the mean over steps}. Raises InputError for a damaged file, another simulator's profile or
        unfit inputs, MissingDependencyError without the simulator.
        """
        require(self)
        try:
            island = nir_runner.read_island(Path(artefact))
            if set(inputs) != {"input"}:
                raise nir_runner.IslandError(f"{artefact} takes input; got {', '.join(sorted(inputs)) or 'nothing'}")
            return Outputs(self.simulate(island, nir_runner.check_input(island, np.asarray(inputs["input"]))))
        except nir_runner.IslandError as error:
            message = str(error)
            raise InputError(message if str(artefact) in message else f"{artefact}: {message}") from None

    def simulate(self, island: nir_runner.Island, values: Array) -> dict[str, Array]:
        """Run a checked island on checked input; IslandError where the simulator cannot."""
        return nir_runner.run_island(island, values, self.name)
