"""The families of models: which configuration makes which network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError, unknown_name

from .config import Config, ModelConfig
from .encoder import encoder_model
from .encoder_config import EncoderConfig
from .lwm import LWM
from .lwm_config import LWMConfig
from .mlp import MLP, MLPConfig
from .spikewfm import ChannelPredictor
from .towers import TwoTowerConfig, TwoTowers


class FoundationModel(Protocol):
    """What every family's network offers beside being an `nn.Module`."""

    config: Config

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """The network's input for canonical channels `[batch, time, antenna, frequency]`, scaled as it wants them."""
        ...

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values of the backbone and of a head (0 without one)."""
        ...


@dataclass(frozen=True)
class Family:
    """A kind of network: the class of its configuration and what builds it."""

    name: str
    config: type[Config]
    build: Callable[[Any], nn.Module]


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("spikewfm", ModelConfig, ChannelPredictor),
        Family("lwm", LWMConfig, LWM),
        Family("encoder", EncoderConfig, encoder_model),
        Family("two-tower", TwoTowerConfig, TwoTowers),
        Family("mlp", MLPConfig, MLP),
    )
}


def build(config: Config) -> nn.Module:
    """The network of a configuration, with fresh weights."""
    return FAMILIES[config.family].build(config)


def config_to_json(config: Config) -> dict[str, Any]:
    """What config.json holds: the values and, for all but SpikeWFM, the family."""
    return config.to_dict() if config.family == "spikewfm" else {"family": config.family, **config.to_dict()}


def config_from_json(values: Any) -> Config:
    """Inverse of config_to_json; InputError for what is no configuration of a known family."""
    if not isinstance(values, dict):
        raise InputError(f"config: {type(values).__name__} where a table of values is wanted")
    family = values.get("family", "spikewfm")
    if family not in FAMILIES:
        raise InputError(str(unknown_name("model family", str(family), FAMILIES, "in config.json")))
    return FAMILIES[family].config.from_dict({key: value for key, value in values.items() if key != "family"})


def parameter_counts(network: nn.Module) -> tuple[int, int]:
    """Trainable values of backbone and head of a family's network."""
    return cast(FoundationModel, network).parameter_counts()
