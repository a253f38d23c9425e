"""Channels, images and IQ streams are cut into tokens that lose nothing and lie where the grid says."""

from typing import Any

import numpy as np
import pytest

from spikeport_errors import InputError
from spikeport_toolkit.data.canonical import Sampling
from spikeport_toolkit.data.patches import patches_from_channel, rms
from spikeport_toolkit.models.tokenizers import ImageTokens, IQTokens, PatchTokens, Tokens

SAMPLING = Sampling(28, 4, 24, 1e-3, 30e3)


def channel(shape: tuple[int, ...] = (2, 28, 4, 24), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.mark.parametrize("patch", [(14, 1, 12), (4, 4, 4), (1, 1, 24), (7, 2, 8), (28, 4, 24)])
@pytest.mark.parametrize("parts", ["joint", "separate"])
@pytest.mark.parametrize("domain", ["frequency", "delay"])
def test_patches_lose_nothing_but_the_scale(patch: tuple[int, int, int], parts: str, domain: str) -> None:
    tokens, h = PatchTokens(*patch, parts=parts, domain=domain), channel()
    cut = tokens.tokens(h)
    assert cut.shape == (2, np.prod(tokens.grid(SAMPLING)), tokens.values)
    np.testing.assert_allclose(np.mean(cut**2, (1, 2)), 0.5, rtol=1e-5)
    np.testing.assert_allclose(tokens.channel(cut, SAMPLING) * rms(h), h, atol=1e-5)


def test_spikewfms_patch_is_one_of_them() -> None:
    h = channel()
    np.testing.assert_array_equal(PatchTokens(14, 1, 12).tokens(h), patches_from_channel(h / rms(h)))


def test_a_token_lies_where_the_grid_says() -> None:
    tokens, h = PatchTokens(7, 2, 8, parts="separate"), channel((1, 28, 4, 24))
    t, a, f = tokens.grid(SAMPLING)
    assert (t, a, f) == (8, 2, 3), "real and imaginary patches of 4 instants each"
    cut = tokens.tokens(h / rms(h)).reshape(t, a, f, -1)
    wanted = (h / rms(h))[0, 14:21, 2:4, 8:16]
    np.testing.assert_allclose(cut[2, 1, 1], wanted.real.ravel(), rtol=1e-4)
    np.testing.assert_allclose(cut[4 + 2, 1, 1], wanted.imag.ravel(), rtol=1e-4)


def test_in_the_delay_domain_a_path_is_a_tap() -> None:
    h = np.exp(-2j * np.pi * 5 / 24 * np.arange(24)).astype(np.complex64).reshape(1, 1, 1, 24)
    cut = PatchTokens(1, 1, 24, domain="delay").tokens(h)[0, 0]
    assert np.flatnonzero(np.abs(cut) > 1e-5).tolist() == [5]
    assert cut[5] == pytest.approx(np.sqrt(24), rel=1e-5)


def test_an_image_of_a_channel_repeats_its_values_and_is_cut_row_by_row() -> None:
    tokens, h = ImageTokens(224, 224, 16), channel((2, 1, 32, 32))
    images = tokens.images(h)
    assert images.shape == (2, 2, 224, 224)
    np.testing.assert_allclose(images[:, 0, ::7, ::7], (h / rms(h))[:, 0].real, rtol=1e-5)
    cut = tokens.tokens(h)
    assert cut.shape == (2, 196, 512)
    np.testing.assert_array_equal(cut[1, 14 + 3].reshape(2, 16, 16), images[1, :, 16:32, 48:64])


def test_a_spectrogram_is_power_over_frequency_and_time() -> None:
    tokens = ImageTokens(48, 56, 8, channels=1, content="spectrogram")
    h = channel()
    h[:, 10, :, 5] = 0
    image = tokens.images(h)
    assert image.shape == (2, 1, 48, 56)
    assert image[0, 0, 10, 20] == pytest.approx(0, abs=1e-6), "silence is at the floor of -60 dB"
    power = np.mean(np.abs(h[0] / rms(h)[0]) ** 2, 1)
    np.testing.assert_allclose(image[0, 0, ::2, ::2], 1 + np.log10(power.T + 1e-6) / 6, atol=1e-5)


def test_iq_segments_are_slices_of_the_stream() -> None:
    tokens, h = IQTokens(antennas=4, samples=640, segment=32, hop=16), channel()
    stream, cut = tokens.stream(h), tokens.tokens(h)
    assert tokens.grid(SAMPLING) == (39, 4, 1)
    assert cut.shape == (2, 39 * 4, 64)
    np.testing.assert_array_equal(cut[1, 5 * 4 + 3].reshape(2, 32), stream[1, :, 3, 80:112])
    first = np.fft.ifft((h / rms(h))[:, 0], axis=2, norm="ortho")
    np.testing.assert_allclose(stream[:, 0, :, :24] + 1j * stream[:, 1, :, :24], first, atol=1e-5)


@pytest.mark.parametrize(
    "tokens", [PatchTokens(1, 2, 3, "separate", "delay"), ImageTokens(32, 32, 8), IQTokens(1, 64, 16, 8)]
)
def test_a_table_names_its_kind(tokens: Tokens) -> None:
    assert Tokens.from_dict(tokens.to_dict()) == tokens


@pytest.mark.parametrize(
    "table",
    [{"kind": "voxels"}, {"kind": ["patches"]}, {"kind": "patches"}, {"time": 0, "antenna": 1, "frequency": 1}, [],
     {"time": 1, "antenna": 1, "frequency": 1, "parts": "both"}, {"time": 1.0, "antenna": 1, "frequency": 1},
     {"time": 1, "antenna": 1, "frequency": 1, "domain": "angle"}, {"time": 2**40, "antenna": 1, "frequency": 1},
     {"kind": "image", "height": 30, "width": 32, "patch": 8}, {"kind": "image", "height": 32, "width": 32, "patch": 0},
     {"kind": "image", "height": 32, "width": 32, "patch": 8, "channels": 3},
     {"kind": "image", "height": 32, "width": 32, "patch": 8, "content": "photo"},
     {"kind": "iq", "antennas": 1, "samples": 8, "segment": 16, "hop": 1},
     {"kind": "iq", "antennas": 1, "samples": 64, "segment": 16, "hop": 0}],
)  # fmt: skip
def test_a_hostile_table_is_refused(table: Any) -> None:
    with pytest.raises(InputError):
        Tokens.from_dict(table)


@pytest.mark.parametrize(
    "tokens",
    [PatchTokens(5, 1, 1), ImageTokens(224, 224, 16), IQTokens(3, 64, 16, 16), IQTokens(4, 673, 16, 16)],
)
def test_a_sampling_that_does_not_fit_is_refused(tokens: Tokens) -> None:
    with pytest.raises(InputError):
        tokens.grid(SAMPLING)
    with pytest.raises(InputError):
        tokens.tokens(channel())


def test_data_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="wanted"):
        ImageTokens(32, 32, 8).cut(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(InputError, match="wanted"):
        IQTokens(1, 64, 16, 8).cut(np.zeros((1, 2, 1, 63), np.float32))
    with pytest.raises(InputError, match="zero or not finite"):
        PatchTokens(1, 1, 24).tokens(np.zeros((1, 28, 4, 24), np.complex64))
