"""Channel prediction in frequency: the upper half of the band, of which nothing is received, from the lower half."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import UnsupportedError

from ..baselines.genie import adjoint_of, estimate_paths, gram_of, known_paths
from ..baselines.lmmse import training_covariance
from ..baselines.separable import separable_lmmse
from ..baselines.wiener import delay_covariance, speed_covariance
from ..data.patches import Channel
from ..data.sampler import Batch, Geometry
from ..models.tokenizers import PatchTokens
from ..objectives.corruption import encode_hidden, mixes_tokens
from ..objectives.encoder import encoder_of
from ..objectives.frequency_prediction import FrequencyPrediction
from ..objectives.nmse import nmse
from .curves import Method, measure
from .evaluation import Evaluation, nmse_of
from .read_out import Tuning, read_out
from .request import Place, Request, clean_batch, inputs_of, noisy

__all__ = ["BASELINES", "BandBatch", "band", "evaluate"]

REGIME = "upper half of the band"
SHARE = 0.5
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True, eq=False)
class BandBatch:
    """Clean channels `[batch, time, antenna, frequency]` and the noisy lower band `[batch, time, antenna, seen]`."""

    clean: Channel
    observed: Channel
    times_s: NDArray[np.float64]
    snr_db: NDArray[np.float64]
    carrier_hz: float
    spacing_hz: float
    geometry: Geometry

    @property
    def seen(self) -> int:
        """Subcarriers received, from the lowest."""
        return self.observed.shape[3]

    @property
    def target(self) -> Channel:
        """The clean upper band."""
        return self.clean[..., self.seen :]

    @property
    def filled(self) -> Channel:
        """The whole band with the lower one repeated where nothing is received, so that its power is not changed."""
        return self.observed[..., np.arange(self.clean.shape[3]) % self.seen]


def band(batch: Batch, seen: int, snr_db: float | tuple[float, float], rng: np.random.Generator) -> BandBatch:
    """`batch` with noise at `snr_db` or U(low, high) a sample, and only its `seen` lowest subcarriers received."""
    assert batch.geometry is not None
    drawn = rng.uniform(*snr_db, len(batch.clean)) if isinstance(snr_db, tuple) else snr_db
    levels = np.broadcast_to(drawn, len(batch.clean)).astype(np.float64)
    power = np.sqrt(10 ** (-levels / 10)).astype(np.float32)[:, None, None, None]
    noise = noisy(batch.clean, 0.0, rng) - batch.clean
    observed = (batch.clean + power * noise)[..., :seen]
    return BandBatch(
        batch.clean, observed, batch.times_s, levels, batch.carrier_hz, batch.spacing_hz, batch.geometry
    )  # fmt: skip


def last_value(batch: BandBatch) -> Channel:
    """The highest subcarrier received, for all above it."""
    return np.broadcast_to(batch.observed[..., -1:], batch.target.shape)


def wiener(batch: BandBatch) -> Channel:
    """Linear MMSE under the fixed prior of baselines/wiener.py: Jakes' fading of U(0.1, 5) m/s, 0.3 us mean delay.

    Like `lmmse` it counts delays from the first arrival, which it is told where the channels keep the true ones.
    """
    r_t = speed_covariance(batch.times_s, batch.carrier_hz, (0.1, 5.0))
    return _separable(
        batch, r_t, np.eye(batch.clean.shape[2]), delay_covariance(batch.clean.shape[3], batch.spacing_hz, 0.3e-6)
    )


def lmmse(batch: BandBatch) -> Channel:
    """Linear MMSE under the covariance of the training cities, separable; antennas white but for a 2 x 2 link."""
    known = training_covariance(batch.carrier_hz, batch.clean.shape[3], batch.spacing_hz)
    antennas = batch.clean.shape[2]
    r_a = known.antenna if len(known.antenna) == antennas and batch.geometry.rx == 2 else np.eye(antennas)
    return _separable(batch, known.time(batch.times_s, batch.carrier_hz), r_a, known.frequency)


def genie(batch: BandBatch) -> Channel:
    """The limit: baselines/genie.py with the lower band for observation."""
    every = known_paths(batch.geometry, batch.times_s)
    lower = replace(every, frequency=every.frequency[..., : batch.seen])
    upper = replace(every, frequency=every.frequency[..., batch.seen :])
    noise = np.mean(np.abs(batch.clean) ** 2, axis=(1, 2, 3)) * 10 ** (-batch.snr_db / 10)
    noise = noise[:, None] * (1 + 1e-13)
    return estimate_paths(adjoint_of(lower, batch.observed) / noise, gram_of(lower) / noise[..., None], upper)


BASELINES: dict[str, tuple[str, Callable[[BandBatch], Channel]]] = {
    "last-value": ("baseline", last_value),
    "wiener": ("baseline", wiener),
    "lmmse": ("baseline", lmmse),
    "genie": ("limit", genie),
}


def evaluate(request: Request, tuning: Tuning | None = None) -> Evaluation:
    """NMSE of the upper half of the band over SNR, in-domain and unseen cities.

    A model hides the tokens of the upper half behind its mask token. `zero-shot` reads them with its pre-training
    decoder; other adaptations with a linear read-out of their features, fitted to `labels` links of the same split at
    SNRs over the whole axis. Beside: ridge regression on the raw tokens of the lower half, one map for every (time,
    antenna), and BASELINES. UnsupportedError for a model without tokens along frequency.
    """
    config = request.config
    bands = {name: _Band(name, network) for name, network in request.models.items()}
    learned = request.adaptation != ZERO_SHOT
    span = (min(request.snrs_db), max(request.snrs_db))

    def methods(place: Place, known: NDArray[np.intp], seed: int) -> Mapping[str, tuple[str, Method[BandBatch]]]:
        found: dict[str, tuple[str, Method[BandBatch]]] = {}
        if learned:
            rng = np.random.default_rng((seed, 1))
            clean = clean_batch(config, place.paths, known, rng)
        for number, (name, each) in enumerate(bands.items()):
            role = request.role(name)
            if hasattr(each.encoder, "decoder"):
                found[f"{name} {ZERO_SHOT}"] = (role, each.zero_shot)
            for labels in request.labels if learned else ():
                seen = band(_first(clean, labels), each.seen, span, np.random.default_rng((seed, 2)))
                found[f"{name} {request.adaptation} {labels}"] = (
                    role, each.fitted(seen, request.adaptation, seed, tuning)
                )  # fmt: skip
                if number == 0:
                    found[f"raw ridge {labels}"] = ("baseline", each.raw(seen))
        return found | {name: (role, partial(_scored, estimate)) for name, (role, estimate) in BASELINES.items()}

    seen = bands[request.model].seen
    curves = measure(
        request.splits(), methods, partial(clean_batch, config), lambda batch, snr, rng: band(batch, seen, snr, rng),
        regime=REGIME, snrs_db=request.snrs_db, links=request.links, labels=max(request.labels) if learned else 0,
        seed=request.seed, seeds=request.seeds, progress=request.progress,
    )  # fmt: skip
    note = "The upper half of the band is not received at all; labels are links of the same split, none of them tested."
    return Evaluation(
        request.model, request.links, request.seed, request.source, curves, task="frequency-prediction",
        seeds=request.seeds, notes=(note,),
    )  # fmt: skip


class _Band:
    """A model that hides the upper band, and the ways to read it out."""

    def __init__(self, name: str, network: nn.Module):
        self.network, tokens = network, getattr(network.config, "tokens", None)
        encoder: Any = getattr(network, "backbone", network)
        along_frequency = not hasattr(tokens, "grid") or (
            isinstance(tokens, PatchTokens) and tokens.domain == "frequency"
        )
        if not hasattr(encoder, "mask_token") or encoder.token_grid[2] < 2 or not along_frequency:
            raise UnsupportedError(
                f"{name} has no tokens along frequency, so no part of the band can be hidden from it: take a "
                "spikewfm, wifo or lwm preset"
            )
        self.encoder = encoder_of(network)
        self.grid = encoder.token_grid
        self.hidden = FrequencyPrediction(share=SHARE).hidden(self.grid, 1, np.random.default_rng(0))[0]
        rows = self.hidden.reshape(self.grid)[0, 0]
        config: Any = network.config
        subcarriers = config.sampling.frequency if hasattr(config, "sampling") else config.grid.subcarriers
        self.seen = int(subcarriers) * int((~rows).sum()) // len(rows)
        self.lower = int((~rows).sum())

    def tokens(self, batch: BandBatch) -> tuple[Tensor, Tensor]:
        """The model's input, and the clean tokens at its scale: |tokens(h)| = c |h| / scale(h)."""
        seen, clean = inputs_of(self.network, batch.filled), inputs_of(self.network, batch.clean)
        powers = [
            np.sqrt(np.sum(np.abs(h) ** 2, axis=(1, 2, 3), dtype=np.float64)) for h in (batch.clean, batch.filled)
        ]
        ratio = (
            torch.from_numpy(powers[0] / powers[1]).to(seen)
            * seen.flatten(1).norm(dim=1)
            / clean.flatten(1).norm(dim=1)
        )
        return seen, clean * ratio.view(-1, 1, 1)

    def features(self, model: nn.Module, tokens: Tensor, corruption: str = "token") -> Tensor:
        hidden = np.broadcast_to(self.hidden, (len(tokens), len(self.hidden)))
        return encode_hidden(
            encoder_of(model), nn.Identity(), tokens, hidden.copy(), corruption, np.random.default_rng(0)
        )  # fmt: skip

    def rows(self, model: nn.Module, tokens: Tensor) -> Tensor:
        return self.features(model, tokens)[:, torch.from_numpy(self.hidden)]

    def score(self, predict: Callable[[Tensor], Any], batch: BandBatch) -> NDArray[np.float64]:
        seen, target = self.tokens(batch)
        with torch.no_grad():
            predicted = torch.as_tensor(predict(seen)).reshape(len(seen), -1, target.shape[2])
        wanted = target[:, torch.from_numpy(self.hidden)]
        return np.asarray(nmse(predicted.double(), wanted.double()).numpy(), np.float64)

    def zero_shot(self, batch: BandBatch) -> NDArray[np.float64]:
        corruption = "drop" if mixes_tokens(self.encoder) else "token"
        read = self.encoder.decoder

        def predict(tokens: Tensor) -> Tensor:
            return read(self.features(self.network, tokens, corruption))[:, torch.from_numpy(self.hidden)]  # type: ignore[no-any-return]

        return self.score(predict, batch)

    def fitted(
        self, labelled: BandBatch, adaptation: str, seed: int, tuning: Tuning | None
    ) -> Callable[[BandBatch], NDArray[np.float64]]:
        seen, target = self.tokens(labelled)
        wanted = target[:, torch.from_numpy(self.hidden)].numpy()
        return partial(
            self.score, read_out(self.network, self.rows, seen, wanted, adaptation, seed=seed, tuning=tuning)
        )

    def raw(self, labelled: BandBatch) -> Callable[[BandBatch], NDArray[np.float64]]:
        """Ridge regression from the lower tokens of a (time, antenna) to its upper ones."""

        def lower(_: nn.Module, tokens: Tensor) -> Tensor:
            rows: Tensor = tokens.unflatten(1, self.grid)[:, :, :, : self.lower]
            return rows.flatten(3).flatten(1, 2)

        seen, target = self.tokens(labelled)
        upper = target.unflatten(1, self.grid)[:, :, :, self.lower :].flatten(3).flatten(1, 2).numpy()
        return partial(self.score, read_out(nn.Identity(), lower, seen, upper))


def _first(batch: Batch, count: int) -> Batch:
    assert batch.geometry is not None
    made = batch.geometry
    geometry = replace(made, users=made.users[:count], velocity=made.velocity[:count])
    return replace(batch, clean=batch.clean[:count], geometry=geometry)


def _scored(estimate: Callable[[BandBatch], Channel], batch: BandBatch) -> NDArray[np.float64]:
    return nmse_of(estimate(batch), batch.target)


def _separable(
    batch: BandBatch, r_t: NDArray[np.generic], r_a: NDArray[np.generic], r_f: NDArray[np.generic]
) -> Channel:
    seen, observed, turn = batch.seen, batch.observed, None
    if not batch.geometry.align_delays:
        cycles = batch.geometry.first_delay_s[:, None] * batch.geometry.frequencies_hz
        turn = np.exp(-2j * np.pi * cycles).astype(np.complex64)[:, None, None]
        observed = observed / turn[..., :seen]
    found = separable_lmmse(
        observed, batch.snr_db, (r_t, r_t), (r_a, r_a), (r_f[:seen, :seen], r_f[seen:, :seen])
    )  # fmt: skip
    return found if turn is None else found * turn[..., seen:]
