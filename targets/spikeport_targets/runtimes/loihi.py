"""Loihi islands in the chip's own integers on this machine: no chip, no Lava."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spikeport_errors import InputError

from ..environments import run_in
from ..runtime import Array, Availability, Outputs, check_arrays
from . import loihi_lava, loihi_runner

LAVA_LIMIT_S = 120.0
ENVIRONMENTS = {"island": "lava", "netx": "lava-dl", "lif": "lava", "dense": "lava"}


class LoihiInteger:
    """The integer model of Loihi's LIF, bit for bit that of Lava's fixed-point processes."""

    name = "loihi-integer"
    route = "loihi"

    def available(self) -> Availability:
        """Always: it needs numpy."""
        return Availability(True, "integer model, numpy")

    def run(self, artefact: Path, inputs: Mapping[str, Array]) -> Outputs:
        """Run a .net island on {'input': float32 currents [batch, hidden]}.

        Gives {'spikes': uint8 [time, batch, hidden] (payloads 0..D of an integer neuron), 'accumulators': int64
        [batch, out], 'output': float32 [batch, out]}. Raises InputError for a damaged file or unfit inputs.
        """
        try:
            island = loihi_runner.read_island(Path(artefact))
            check_arrays(inputs, {"input": (None, island.inputs)}, str(artefact))
            return Outputs(loihi_runner.run_island(island, np.asarray(inputs["input"])))
        except loihi_runner.IslandError as error:
            raise InputError(str(error)) from None


def run_lava(kind: str, cases: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """Cases of one `kind` of `loihi_lava` in real Lava, fixed point, one after the other in one process.

    Raises MissingDependencyError where the environment of the kind is not made, InputError where Lava fails.
    """
    with tempfile.TemporaryDirectory(prefix="spikeport-") as name:
        sources, results = ([Path(name) / f"{what}-{k}.npz" for k in range(len(cases))] for what in ("case", "result"))
        for source, case in zip(sources, cases, strict=True):
            np.savez(source, kind=np.array(kind), **case)  # type: ignore[arg-type]
        places = [str(path) for pair in zip(sources, results, strict=True) for path in pair]
        run_in(ENVIRONMENTS[kind], [str(Path(loihi_lava.__file__).resolve()), *places], LAVA_LIMIT_S * len(cases))
        return [_arrays(path) for path in results]


def _arrays(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key].astype(np.int64) for key in archive.files}
