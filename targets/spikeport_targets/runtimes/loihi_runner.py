"""Run Loihi islands in the chip's own integers. Needs numpy; Python 3.10 or newer.

A bundle carries this file as `run.py`: `python run.py` runs every island on its golden input and compares spikes and
accumulators bit by bit. It needs nir_file.py beside it and
imports nothing of spikeport.

An island is a file in the network-exchange (netx) layout of lava-dl with two layers, LIF neurons that get their current
as a bias, and a dense layer onto accumulators, and a group `spikeport` with what that layout cannot say: how many steps
a token takes, how a float current becomes a bias mantissa, how an accumulator becomes a float.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STATE_LIMIT = 2**23
"""u and v are 24-bit: u wraps around at +-2^23, v saturates one below it."""
DECAY_ONE, DECAY_BITS, SHIFT = 4096, 12, 6
"""Decays are 12-bit; activations, thresholds and (in netx) biases enter shifted left by 6 bits."""
BIAS_LOW, BIAS_HIGH = -4096, 4095
"""A bias mantissa has 13 bits with its sign."""
VTH_HIGH = 2**17 - 1
GOLDEN = ("input", "spikes", "accumulators", "output")


class IslandError(ValueError):
    """The file is no island that this runner can run; the message says why."""


def lif(
    activation: Array, bias: Array | int, *, vth: int | Array, dv: int, du: int = 4095, bias_exp: int = SHIFT
) -> tuple[Array, Array, Array]:
    """Loihi's current-based LIF: spikes uint8 [time, ...], and u and v int64 [...] after the last step.

        u <- wrap(decay(u, du + 1) + (activation << 6))
        v <- clip(decay(v, dv) + u + (bias << bias_exp), -2^23 + 1, 2^23 - 1)
        spike = v > (vth << 6),  then v <- 0
        decay(x, d) = sign(x) ((|x| (4096 - d)) >> 12),  wrap: once around +-2^23

    `activation` int [time, ...] arrives in each step, `bias` int [...] is constant, `vth` is shared or [...]. With
    du = 4095 the current decays fully. Equal to `PyLifModelBitAcc` of lava-nc 0.10.0, bit for bit.
    """
    activation = np.asarray(activation, np.int64)
    steady = np.asarray(bias, np.int64)
    steady = steady << bias_exp if bias_exp >= 0 else steady >> -bias_exp
    u = np.zeros(np.broadcast_shapes(activation.shape[1:], steady.shape), np.int64)
    v = u.copy()
    spikes = np.zeros((len(activation), *u.shape), np.uint8)
    for t, arriving in enumerate(activation):
        u = _decay(u, du + 1) + (arriving << SHIFT)
        u = np.where(u > STATE_LIMIT, u - 2 * STATE_LIMIT, np.where(u <= -STATE_LIMIT, u + 2 * STATE_LIMIT, u))
        v = np.clip(_decay(v, dv) + u + steady, 1 - STATE_LIMIT, STATE_LIMIT - 1)
        spikes[t] = v > (vth << SHIFT)
        v = np.where(spikes[t], 0, v)
    return spikes, u, v


def dense(weight: Array, spikes: Array, *, weight_bits: int = 8, weight_exp: int = 0) -> Array:
    """Loihi's dense synapses: int64 [..., out] from `spikes` [..., in] (payloads where they are graded).

        a = (sum_j trunc(w_j) s_j) << weight_exp      (>> where the exponent is negative)

    `weight` int [out, in] is in the chip's units: with both signs -256 to 255, of which the lowest 9 - weight_bits
    bits are cleared; of one sign up to 255 in size, with 8 - weight_bits cleared. Equal to `PyDenseModelBitAcc` of
    lava-nc 0.10.0.
    """
    total = (np.asarray(spikes, np.float64) @ stored(weight, weight_bits).T.astype(np.float64)).astype(np.int64)
    return np.asarray(total << weight_exp if weight_exp > 0 else total >> -weight_exp)


def stored(weight: Array, weight_bits: int = 8) -> Array:
    """The weights that the chip's synapses hold, int64, after its clipping and truncation; see `dense`."""
    weight = np.asarray(weight, np.int64)
    mixed = bool(weight.min(initial=0) < 0 < weight.max(initial=0))
    negative = not mixed and bool(weight.min(initial=0) < 0)
    size = -weight if negative else weight
    drop = 8 - weight_bits + mixed
    size = (np.clip(size, -256 if mixed else 0, 255) >> drop) << drop
    return -size if negative else size


@dataclass(frozen=True)
class NetIsland:
    """One island as a .net file holds it.

    `weight` int [out, slots * hidden]; `offsets` int [slots], what slot k adds to the mantissa of its neuron.
    A current I becomes the mantissa floor(scale I), an accumulator a becomes the output decode a + shift.
    """

    weight: Array
    vth: int
    dv: int
    steps: int
    offsets: Array
    scale: float
    decode: Array
    shift: Array

    @property
    def inputs(self) -> int:
        """Currents a token brings, one per neuron."""
        return int(self.weight.shape[1] // len(self.offsets))

    def mantissas(self, current: Array) -> Array:
        """Bias mantissas int64 [batch, slots * hidden] of float currents [batch, hidden], saturated to 13 bits."""
        base = np.floor(np.asarray(current, np.float64) * self.scale).clip(2 * BIAS_LOW, 2 * BIAS_HIGH).astype(np.int64)
        moved = (base[:, None, :] + self.offsets[None, :, None]).reshape(len(base), -1)
        return np.asarray(np.clip(moved, BIAS_LOW, BIAS_HIGH))

    def run(self, mantissas: Array) -> tuple[Array, Array]:
        """Spikes uint8 [time, batch, slots * hidden] and accumulators int64 [batch, out], as the chip computes them."""
        silent = np.zeros((self.steps, *mantissas.shape), np.int64)
        spikes, _, _ = lif(silent, mantissas, vth=self.vth, dv=self.dv)
        weight, exponent = chip_weight(self.weight)
        arriving = np.stack([dense(weight, s, weight_exp=exponent) for s in spikes])
        fired, _, total = lif(arriving, 0, vth=VTH_HIGH, dv=0)
        if fired.any():
            raise IslandError("an accumulator overflows 24 bits: quantise the island with a smaller weight scale")
        return spikes, total >> SHIFT

    def counts(self, spikes: Array) -> Array:
        """Spikes uint8 [time, batch, hidden]: the slots of a neuron added, which is the payload of a graded spike."""
        slots: Array = spikes.reshape(*spikes.shape[:2], len(self.offsets), -1)
        return np.asarray(slots.sum(2, dtype=np.uint8))

    def outputs(self, accumulators: Array) -> Array:
        """Float32 outputs [batch, out]: the mean over time, with the bias of fc2 that the host adds."""
        return (accumulators * self.decode + self.shift).astype(np.float32)


def chip_weight(weight: Array) -> tuple[Array, int]:
    """Weights in the chip's units and their exponent, as netx derives them: no value is lost below 9 bits.

    Signed weights are shifted left until one more bit would leave -256 to 254, and the exponent takes it back.
    """
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    if low == high == 0:
        return weight, 0
    if low < 0 < high:
        room = min(127 / high, -128 / low)
        bits = int(np.floor(np.log2(room))) + 1
    else:
        bits = int(np.floor(np.log2(255 / max(high, -low))))
    return weight << bits, -bits


def read_island(path: Path) -> NetIsland:
    """The island in a .net file, whatever it holds; IslandError for a damaged one or none of spikeport's."""
    path = Path(path)
    if not path.is_file():
        raise IslandError(f"{path} does not exist; export the model again")
    try:
        tree = _nir_file().read_tree(path)
        first, second, extra = tree["layer"]["0"], tree["layer"]["1"], tree["spikeport"]
        given = {name: np.asarray(extra[name]).astype(np.float64) for name in ("scale", "decode", "shift")}
        whole = {"vth": first["neuron"]["vThMant"], "dv": first["neuron"]["vDecay"], "steps": extra["steps"]}
        island = NetIsland(
            weight=_integers(second["weight"], 2),
            offsets=_integers(extra["offsets"], 1),
            scale=float(given["scale"]),
            decode=given["decode"],
            shift=given["shift"],
            **{name: int(_integers(value, 0)) for name, value in whole.items()},
        )
        problem = _fault(island, [first["type"], second["type"]])
    except Exception as error:  # a file that nobody vouches for can lack anything, or hold anything else there
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise IslandError(f"{path} is no island that can be read ({reason}): export the model again") from None
    if problem:
        raise IslandError(f"{path}: {problem}; export the model again")
    return island


def run_island(island: NetIsland, current: Array) -> dict[str, Array]:
    """Spikes uint8 [time, batch, hidden], accumulators int64 [batch, out] and output float32 [batch, out]."""
    spikes, accumulators = island.run(island.mantissas(current))
    return {
        "spikes": island.counts(spikes),
        "accumulators": accumulators,
        "output": island.outputs(accumulators),
    }


def _decay(x: Array, amount: int) -> Array:
    return np.asarray(np.sign(x) * ((np.abs(x) * (DECAY_ONE - amount)) >> DECAY_BITS))


def _fault(island: NetIsland, kinds: list[str]) -> str:
    outputs, width = island.weight.shape
    slots = island.offsets.size
    checks = (
        (kinds == ["input", "dense"], f"layers {' -> '.join(kinds)}, wanted input -> dense"),
        (island.offsets.ndim == 1 and 0 < slots <= 127 and width % slots == 0, f"{slots} slots for {width} neurons"),
        (0 <= island.vth <= VTH_HIGH, f"threshold {island.vth} is outside 0 to {VTH_HIGH}"),
        (0 <= island.dv <= DECAY_ONE, f"decay {island.dv} is outside 0 to {DECAY_ONE}"),
        (0 < island.steps <= 1024, f"{island.steps} steps"),
        (np.abs(island.weight).max(initial=0) <= 128, "a weight has more than 8 bits"),
        (island.decode.shape == island.shift.shape == (outputs,), "decode and shift do not fit the outputs"),
        (np.isfinite([island.scale, *island.decode, *island.shift]).all(), "a scale is not finite"),
    )
    return next((text for holds, text in checks if not holds), "")


def _integers(value: Any, rank: int) -> Array:
    found = np.asarray(value)
    if found.dtype.kind not in "iu" or found.ndim != rank:
        raise ValueError(f"{found.dtype} {list(found.shape)} where integers belong")
    return found.astype(np.int64)


def _nir_file() -> Any:
    """The reader of plain HDF5 files, from the package, or where this file stands alone from beside it."""
    if __package__:
        return importlib.import_module(".nir_file", __package__)
    spec = importlib.util.spec_from_file_location("nir_file", Path(__file__).with_name("nir_file.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Run every island of the bundle that this file stands in; exit code 1 where anything differs, 2 on error."""
    parser = argparse.ArgumentParser(description="Run the islands of this bundle on their golden input.")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().bundle
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        held = [_holds(folder, entry) for entry in manifest["hybrid"]["islands"]]
    except (IslandError, OSError, KeyError, ValueError, TypeError) as error:
        print(f"error: {type(error).__name__}: {error}; export the model again", file=sys.stderr)
        return 2
    return int(not all(held))


def _holds(folder: Path, entry: dict[str, Any]) -> bool:
    with np.load(folder / entry["golden"], allow_pickle=False) as golden:
        got = run_island(read_island(folder / entry["file"]), golden["input"])
        wrong = {name: int((got[name] != golden[name]).sum()) for name in GOLDEN[1:]}
    print(f"{'FAIL' if any(wrong.values()) else 'ok  '} {entry['path']}: differing values {wrong}")
    return not any(wrong.values())


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # a bundle stays as it was written
    sys.exit(main())
