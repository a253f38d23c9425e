"""The design space of a sweep: `neuron=lif,ilif;steps=2,4,8;precision=fp16,int8;target=a,b` and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from torch import nn

from spikeport_errors import InputError, UnsupportedError, UsageError, unknown_name
from spikeport_toolkit.models.config import SPIKING_KINDS, TWIN_KINDS, ModelConfig, NeuronConfig
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.load import is_trained, load_model
from spikeport_toolkit.models.presets import preset, presets

AXES = ("neuron", "steps", "levels", "precision", "target")
GRADED = ("ilif", "qrelu")
MOST_POINTS = 1000
EXAMPLE = "neuron=lif,ilif;steps=2,4,8;precision=fp16,int8;target=jetson-orin-nano,loihi2"


@dataclass(frozen=True)
class Setting:
    """One point of the space: the neuron with its T (`steps`) and D (`levels`), the precision and the target's id."""

    neuron: str
    steps: int
    levels: int
    precision: str
    target: str

    @property
    def id(self) -> str:
        """A name that is a file name too."""
        return f"{self.neuron}-T{self.steps}-D{self.levels}-{self.precision}-{self.target}"


@dataclass(frozen=True)
class Variant:
    """A network with another neuron, T or D; `weights` says whose weights it has, `note` that it was not retrained."""

    network: nn.Module
    weights: str
    retrained: bool
    note: str


def parse_axes(text: str) -> dict[str, tuple[str, ...]]:
    """The axes of a `--sweep` text; UsageError for an axis that is unknown, empty or named twice."""
    axes: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, equals, values = part.partition("=")
        name = name.strip()
        if name not in AXES:
            raise unknown_name("axis of --sweep", name, AXES, f'as "{EXAMPLE}"')
        found = tuple(value.strip() for value in values.split(","))
        if not equals or not all(found) or name in axes:
            raise UsageError(f'--sweep {part!r}: give an axis once, and values with commas between, as "{EXAMPLE}"')
        axes[name] = tuple(dict.fromkeys(found))
    if not axes:
        raise UsageError(f'--sweep is empty: give axes and values, as "{EXAMPLE}"')
    return axes


def settings_of(axes: Mapping[str, Sequence[str]], model: str, config: ModelConfig) -> list[Setting]:
    """All points of `axes`; an axis that is left out keeps what MODEL and its neuron have.

    D of a binary neuron is 1 and a twin has no T, whatever the axes say. Raises UsageError for values out of range, and
    for steps or levels that no neuron of the sweep has.
    """
    kinds = SPIKING_KINDS + TWIN_KINDS
    asked = {axis: _whole(axis, axes[axis]) for axis in ("steps", "levels") if axis in axes}
    used: set[str] = set()
    found: dict[Setting, None] = {}
    for neuron in axes.get("neuron", (config.neuron.kind,)):
        if neuron not in kinds:
            raise unknown_name("neuron", neuron, kinds, "choose among those")
        own = neuron_config(model, config, neuron)
        takes = {"steps": own.spiking, "levels": neuron in GRADED}
        used |= {axis for axis, taken in takes.items() if taken}
        steps = asked.get("steps", (own.steps,)) if takes["steps"] else (own.steps,)
        levels = asked.get("levels", (own.levels,)) if takes["levels"] else (own.levels,)
        for values in product(steps, levels, axes["precision"], axes["target"]):
            found[Setting(neuron, *values)] = None
    for axis in asked:
        if axis not in used:
            able = GRADED if axis == "levels" else SPIKING_KINDS
            raise UsageError(f"--sweep {axis}: no neuron of the sweep has {axis}; add neuron={','.join(able)}")
    if len(found) > MOST_POINTS:
        raise UsageError(f"--sweep has {len(found)} points; {MOST_POINTS} is the limit: take fewer values")
    return list(found)


def neuron_config(model: str, config: ModelConfig, kind: str) -> NeuronConfig:
    """The neuron of MODEL, or that of the preset of the same size with another kind."""
    if kind == config.neuron.kind:
        return config.neuron
    other = preset(sibling(model, kind) or _nano(kind)).config
    assert isinstance(other, ModelConfig)
    return other.neuron


def sibling(model: str, kind: str) -> str | None:
    """The preset that is MODEL with another kind of neuron, None if MODEL is no preset or there is none."""
    found = presets()
    if model not in found:
        return None
    sizes = [name for name in found if model == name or model.startswith(f"{name}-")]
    size = min(sizes, key=len)
    name = size if kind == "lif" else f"{size}-{kind}"
    return name if name in found else None


def variant(model: str, setting: Setting) -> Variant:
    """MODEL with the neuron of `setting`: of shipped weights where they are for that neuron, else of MODEL's own.

    A changed T or D keeps the weights and says so. Raises UnsupportedError where the weights do not fit.
    """
    network = load_model(model)
    config: ModelConfig = network.config  # type: ignore[assignment]
    other = sibling(model, setting.neuron)
    weights, changed = model, []
    if setting.neuron != config.neuron.kind:
        if other is not None and is_trained(other):
            network, weights = load_model(other), other
            config = network.config  # type: ignore[assignment]
        else:
            changed.append(f"neuron {config.neuron.kind} to {setting.neuron}")
    neuron = config.neuron if not changed else neuron_config(model, config, setting.neuron)
    if (setting.steps, setting.levels) != (neuron.steps, neuron.levels):
        changed.append(f"T={neuron.steps}, D={neuron.levels} to T={setting.steps}, D={setting.levels}")
    if not changed:
        trained = is_trained(weights)
        return Variant(network, weights, trained, "" if trained else "untrained: no weights ship")
    try:
        altered = replace(config, neuron=replace(neuron, steps=setting.steps, levels=setting.levels))
        made = build(altered).eval()
        made.load_state_dict(network.state_dict())
    except (InputError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedError(f"{weights} cannot be run with {'; '.join(changed)}: {reason}") from None
    return Variant(made, weights, False, f"not retrained: {'; '.join(changed)} on the weights of {weights}")


def _nano(kind: str) -> str:
    return "spikewfm-nano" if kind == "lif" else f"spikewfm-nano-{kind}"


def _whole(axis: str, values: Sequence[str]) -> tuple[int, ...]:
    most = 1024 if axis == "steps" else 127
    if not all(v.isascii() and v.isdigit() and 1 <= int(v) <= most for v in values):
        raise UsageError(f"--sweep {axis}={','.join(values)}: give whole numbers from 1 to {most}")
    return tuple(map(int, values))
