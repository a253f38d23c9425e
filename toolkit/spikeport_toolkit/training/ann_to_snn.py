"""ANN-to-SNN conversion: a trained network's ReLU or GELU feed-forward parts as spiking ones, without training.

For every hidden unit of a feed-forward part, with the current x before the activation and y = activation(x), the rate
r of a neuron replaces y:

    y ~ s r(g x + o) + c

(g, o) is the best of a few; s and c are its least-squares fit over the currents of calibration samples. g and o go into
the normalisation before the neuron (a BatchNorm where the network had none), s and c into W2 and b2. The parts are
fitted in the order they run in, each on what the converted ones before it give. Everything else stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_errors import InputError, UnsupportedError, UsageError

from ..data.sampler import Batch
from ..models.checkpoint import save_checkpoint
from ..models.config import Config, ModelConfig, NeuronConfig
from ..models.encoder import ChannelEncoder
from ..models.families import FoundationModel, build
from ..models.layers import FeedForward
from ..models.load import is_trained, load_model
from ..models.lwm import LWM
from ..models.neuron import activation
from ..models.rate import Rate
from ..objectives.masked import Masked
from .batches import Batches, Links
from .provenance import checkpoint_files, training_links
from .recipe import Stage

__all__ = ["Converted", "ConvertedPart", "ann_to_snn", "convert"]

BATCHES = 4
MOST_ROWS = 4096
"""Currents of a unit that its fit sees."""
PLACES = (0.0, 0.5, 0.9, 1.0)
"""Current where x = 0, of the least that makes a neuron fire."""
REACHES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Where the rate saturates, of a unit's largest activation."""
LEAST_REACH = 0.1
"""Least activation that a unit's neuron spans, in standard deviations of its current."""
LEAST_SPREAD = 1e-3
"""Least deviation of a unit's current that is taken for 1, of the length of its weights."""
ENTRIES = 100_001
MOST_SEED = 2**32 - 1
SAMPLES = (BATCHES * 2, 4096)

Step = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ConvertedPart:
    """A feed-forward part: error of its rates' fit over the energy of its activations, dB, and its mean rate."""

    name: str
    units: int
    silent: int
    """Neurons that the calibration samples never make fire."""
    error_db: float | None
    """None where no activation has any energy."""
    rate: float


@dataclass(frozen=True)
class Converted:
    """What `ann_to_snn` made; `output_db` is the change of the output over its energy on the calibration samples."""

    model: str
    family: str
    neuron: dict[str, Any]
    parts: tuple[ConvertedPart, ...]
    output_db: float | None
    samples: int
    folder: str

    def summary(self) -> str:
        """A line a part for people, and what came out."""
        width = max(len(part.name) for part in self.parts)
        rows = [
            f"{part.name:{width}}  {part.units:>6,} neurons, {part.silent:,} silent  error {_told(part.error_db):>8}  "
            f"rate {part.rate:.3f}"
            for part in self.parts
        ]
        kind, steps, levels = (self.neuron[key] for key in ("kind", "steps", "levels"))
        return "\n".join([
            *rows,
            f"{self.model} with {kind} neurons, T = {steps}, D = {levels}: its output changes by "
            f"{_told(self.output_db)} of its energy on {self.samples} calibration samples; wrote {self.folder}",
        ])  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Sample:
    """A batch of channels, as the network's input, and the seed of what is hidden of it."""

    inputs: Tensor
    batch: Batch
    seed: tuple[int, int]


def ann_to_snn(
    model: str, *, neuron: NeuronConfig, out: Path, data: Path | None, samples: int, seed: int, progress: Step
) -> Converted:
    """Write the converted MODEL, a preset with weights or a checkpoint folder of ours, as the new checkpoint `out`.

    About `samples` channels of the training links, of the store `data` or the embedded cities, calibrate it; `progress`
    is told each part. Raises UsageError for values out of range, InputError for a model without weights, with values
    that overflow or where `out` exists, and UnsupportedError where there is nothing to convert.
    """
    if not SAMPLES[0] <= samples <= SAMPLES[1]:
        raise UsageError(f"--samples is {samples}, outside {SAMPLES[0]} to {SAMPLES[1]:,}")
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"--seed is {seed}, outside 0 to {MOST_SEED:,}")
    if out.exists():
        raise InputError(f"{out} exists; give another --out or remove it")
    if not is_trained(model):
        raise InputError(f"{model} ships no trained weights to convert: give a checkpoint folder")
    source = load_model(model)
    links, facts = training_links(data)
    fed = _samples(source, links, samples, seed)
    network, parts = convert(source, neuron, fed, progress)
    with torch.inference_mode():
        before, after = (torch.cat([each(sample.inputs).flatten() for sample in fed]) for each in (source, network))
    if not all(value.isfinite().all() for value in (after, *network.state_dict().values())):
        raise InputError(f"{model}: its weights are so large that the converted ones overflow: check them")
    change = _decibel((after - before).square().sum(), before.square().sum())
    save_checkpoint(network, out, extra=checkpoint_files(links, facts, model))
    used = sum(len(sample.inputs) for sample in fed)
    return Converted(model, _config_of(source).family, asdict(neuron), parts, change, used, str(out))


def convert(
    source: nn.Module, neuron: NeuronConfig, samples: list[Sample], progress: Step = lambda what, done, total: None
) -> tuple[nn.Module, tuple[ConvertedPart, ...]]:
    """A copy of `source` (eval mode) with the spiking `neuron`, fitted on `samples`, and how well each part fits."""
    old = _config_of(source)
    network = build(_spiking(old, neuron)).eval()
    network.load_state_dict({**network.state_dict(), **source.state_dict()})
    act, parts, stairs = activation(old.neuron), [], _Stairs(neuron)
    with torch.inference_mode():
        ordered = _in_order(network, samples, old.name)
        for number, (name, ffn) in enumerate(ordered):
            progress("fitting neurons", number, len(ordered))
            had_norm = _norm(old) != "none"
            x = _currents(network, ffn.norm if had_norm else ffn.fc1, samples)
            if not had_norm:
                _add_norm(ffn, x)
            parts.append(_fit(name, ffn, x, act(x), stairs))
        progress("fitting neurons", len(ordered), len(ordered))
    return network, tuple(parts)


def _config_of(source: nn.Module) -> Any:
    """The configuration of a network that can be converted."""
    config: Any = getattr(source, "config", None)
    name = getattr(config, "name", type(source).__name__)
    known = isinstance(config, Config) and hasattr(config, "neuron")
    if not known or not any(isinstance(module, FeedForward) for module in source.modules()):
        raise UnsupportedError(
            f"{name} has no transformer's feed-forward parts of ours, which are what is converted: take a SpikeWFM, an "
            "LWM or another encoder"
        )
    if config.neuron.spiking:
        raise UnsupportedError(f"{name} spikes already; what is converted has relu, gelu or qrelu")
    return config


def _norm(config: Any) -> str:
    return str(getattr(config, "ffn_norm", None) or config.norm)


def _spiking(config: Any, neuron: NeuronConfig) -> Any:
    key = "ffn_norm" if hasattr(config, "ffn_norm") else "norm"
    norm = "bn" if _norm(config) == "none" else _norm(config)
    return replace(config, name=f"{config.name}-{neuron.kind}", neuron=neuron, **{key: norm})


def _samples(source: nn.Module, links: Links, samples: int, seed: int) -> list[Sample]:
    """Noisy patches for a channel predictor, clean channels for all others, as they are trained."""
    config = _config_of(source)
    batches = Batches(links, config, Stage("masked", steps=BATCHES, batch=samples // BATCHES), (seed, 0))
    found = []
    for number, batch, _ in batches.steps(0, BATCHES, 0):
        if isinstance(config, ModelConfig):
            found.append(Sample(torch.from_numpy(batch.patches()), batch, (seed, number)))
        else:
            found.append(Sample(cast(FoundationModel, source).inputs(batch.clean), batch, (seed, number)))
    return found


def _feed(network: nn.Module, samples: list[Sample]) -> None:
    """Run `network` on whole samples and, where it reconstructs what is hidden, on samples with hidden tokens too."""
    encoder = getattr(network, "backbone", network)
    objective = Masked("lwm" if isinstance(encoder, LWM) else "random")
    for sample in samples:
        network(sample.inputs)
        if isinstance(encoder, ChannelEncoder | LWM):
            objective.loss(network, nn.ModuleDict(), sample.batch, np.random.default_rng(sample.seed))


def _in_order(network: nn.Module, samples: list[Sample], name: str) -> list[tuple[str, FeedForward]]:
    """The feed-forward parts in the order they run in; UnsupportedError where one does not run."""
    found: dict[str, FeedForward] = {}

    def note(name: str, module: FeedForward, *_: object) -> None:
        found.setdefault(name, module)

    parts = [(name, module) for name, module in network.named_modules() if isinstance(module, FeedForward)]
    with _hooks([(module, partial(note, name)) for name, module in parts]):
        _feed(network, samples[:1])
    left = [part for part, _ in parts if part not in found]
    if left:
        raise UnsupportedError(f"{name}: {left[0]} does not run on a channel, so it cannot be fitted")
    return list(found.items())


def _currents(network: nn.Module, before: nn.Module, samples: list[Sample]) -> Tensor:
    """What `before` gives, `[row, unit]`, of MOST_ROWS rows at most."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output.flatten(0, -2))

    with _hooks([(before, keep)]):
        _feed(network, samples)
    rows = torch.cat(found)
    return rows[:: -(-len(rows) // MOST_ROWS)]


@contextmanager
def _hooks(wanted: list[tuple[nn.Module, Callable[..., None]]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in wanted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add_norm(ffn: FeedForward, x: Tensor) -> None:
    """Scale and shift the weights before every unit so that its currents `x` get mean 0 and variance 1, and undo it in
    the norm.

    Units of other scales would need gains far from 1, which half precision cannot hold and training cannot tune.
    """
    norm: Any = ffn.norm
    mean = x.mean(0)
    unit = torch.maximum(x.std(0, unbiased=False), LEAST_SPREAD * ffn.fc1.weight.norm(dim=1))
    unit = torch.where(unit > torch.finfo(x.dtype).tiny, unit, 1.0)
    ffn.fc1.weight.div_(unit[:, None])
    ffn.fc1.bias.sub_(mean).div_(unit)
    norm.running_mean.zero_()
    norm.running_var.copy_((x / unit).var(0, unbiased=False))
    norm.weight.copy_((norm.running_var + norm.eps).sqrt() * unit)
    norm.bias.copy_(mean)


def _fit(name: str, ffn: FeedForward, x: Tensor, y: Tensor, stairs: _Stairs) -> ConvertedPart:
    """Fit every unit of one part to activations `y` `[row, unit]` of currents `x`, and write its weights.

    A unit whose activation never changes gets no current; of one that changes little, the gain is bounded.
    """
    alive = y.amax(0) > y.amin(0)
    reach = torch.maximum(y.amax(0), LEAST_REACH * x.std(0)).clamp_min(torch.finfo(y.dtype).tiny)
    least = torch.full_like(reach, torch.inf)
    gain, place, scale, shift, rate = (torch.zeros_like(reach) for _ in range(5))
    for start in PLACES:
        for part in REACHES:
            o = torch.where(alive, start * stairs.first, 0.0)
            g = torch.where(alive, (stairs.last - o) / (part * reach), 0.0)
            r = stairs(g * x + o)
            mean_r, mean_y = r.mean(0), y.mean(0)
            centred = r - mean_r
            s = (centred * y).sum(0) / centred.square().sum(0).clamp_min(1e-12)
            c = mean_y - s * mean_r
            error = (s * r + c - y).square().sum(0)
            better = error < least
            for kept, value in zip((least, gain, place, scale, shift, rate), (error, g, o, s, c, mean_r), strict=True):
                kept[better] = value[better]
    norm: Any = ffn.norm
    norm.weight.mul_(gain)
    norm.bias.mul_(gain).add_(place)
    ffn.fc2.bias.add_(ffn.fc2.weight @ shift)
    ffn.fc2.weight.mul_(scale)
    error_db = _decibel(least.sum(), y.square().sum())
    return ConvertedPart(name, len(reach), int((rate == 0).sum()), error_db, float(rate.mean()))


class _Stairs:
    """The rate of a neuron as a table over constant currents, from 0 to where it fires all it can.

    Fine enough for a fit, and of the same cost for any T. `first` is the least current that makes it fire, `last` the
    least at which it fires all it can.
    """

    def __init__(self, config: NeuronConfig):
        current = torch.linspace(0, 4 * config.levels * config.v_threshold * config.tau, ENTRIES)
        rate: Tensor = Rate.apply(current, config)
        end = int((rate >= rate.max()).nonzero()[0])
        self.first, self.last = float(current[rate > 0][0]), float(current[end])
        self.step, self.rate = float(current[1]), rate[: end + 1]

    def __call__(self, current: Tensor) -> Tensor:
        return self.rate[(current / self.step).nan_to_num().clamp(0, len(self.rate) - 1).int()]


def _decibel(error: Tensor, energy: Tensor) -> float | None:
    """10 log10 of the ratio, no less than -300; None for no energy."""
    return None if float(energy) == 0 else round(float(10 * np.log10(max(float(error / energy), 1e-30))), 2)


def _told(decibels: float | None) -> str:
    return "-" if decibels is None else f"{decibels:.1f} dB"
