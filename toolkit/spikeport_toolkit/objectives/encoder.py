"""What objectives ask of a model, of whatever family: its tokens, its features, one vector a sample."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.impairments import awgn
from ..data.patches import Channel
from ..models.families import FoundationModel


class Encoder(Protocol):
    """A backbone that reads tokens `[batch, token, value]` in the order (time, antenna, frequency)."""

    embed: nn.Module
    decoder: nn.Module
    mask_token: Tensor
    token_grid: tuple[int, int, int]

    def encode(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embeddings to features `[batch, token, d]`, of the tokens `keep` `[batch, k]` only where it is given."""
        ...


def encoder_of(model: nn.Module) -> Encoder:
    """The backbone of `model`, or `model` itself; InputError where it is no encoder of tokens."""
    backbone = getattr(model, "backbone", model)
    for name in ("embed", "mask_token", "encode", "decoder", "token_grid"):
        if not hasattr(backbone, name):
            raise InputError(
                f"{type(backbone).__name__} has no {name}, so this objective cannot hide tokens from it: "
                "take an encoder of tokens, or the objective contrastive or charting"
            )
    return cast(Encoder, backbone)


def tokens_of(model: nn.Module, channel: Channel) -> Tensor:
    """The model's scaled input of channels `[batch, time, antenna, frequency]`, on the model's device."""
    return cast(FoundationModel, model).inputs(channel).to(device_of(model))


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def noisy_tokens(
    model: nn.Module, clean: Channel, snr_db: tuple[float, float] | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """(input, target) tokens: the input with white noise at U(`snr_db`) dB a sample, or clean for None.

    The target is clean, at the scale of the input. A model scales a sample as a whole and its tokens keep the energy
    of the sample up to a constant c, |tokens(h)| = c |h| / scale(h), so with x = tokens(noisy), y = tokens(clean):

        target = y (|clean| |x|) / (|noisy| |y|)
    """
    target = tokens_of(model, clean)
    if snr_db is None:
        return target, target
    power = np.mean(np.abs(clean) ** 2, axis=(1, 2, 3), dtype=np.float64)
    noisy = awgn(clean, power, rng.uniform(*snr_db, len(clean)), rng)
    tokens = tokens_of(model, noisy)
    ratio = torch.from_numpy(np.sqrt(power / np.mean(np.abs(noisy) ** 2, axis=(1, 2, 3), dtype=np.float64)))
    ratio = ratio.to(tokens) * tokens.flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)
    return tokens, target * ratio.view(-1, *[1] * (target.ndim - 1))


def width_of(model: nn.Module) -> int:
    """Features `d` of the backbone."""
    backbone: Any = getattr(model, "backbone", model)
    return int(backbone.mask_token.shape[-1] if hasattr(backbone, "mask_token") else backbone.config.d)


def values_of(encoder: Encoder) -> int:
    """Values of a token: what the decoder gives for one."""
    tokens, network = math.prod(encoder.token_grid), encoder.decoder
    was_training = network.training
    network.eval()
    with torch.no_grad():
        values = network(encoder.mask_token.expand(1, tokens, -1)).shape[-1]
    network.train(was_training)
    return int(values)


def pooled(model: nn.Module, channel: Channel) -> Tensor:
    """One vector `[batch, d]` a sample: the [CLS] features where the backbone has them, else the mean over tokens."""
    backbone: Any = getattr(model, "backbone", model)
    tokens = tokens_of(model, channel)
    if hasattr(backbone, "cls_features"):
        return backbone.cls_features(tokens)  # type: ignore[no-any-return]
    encoder = encoder_of(model)
    return encoder.encode(encoder.embed(tokens)).mean(1)
