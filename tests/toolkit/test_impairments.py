"""Each impairment does what its equation says, in its units."""

import os
from pathlib import Path

import numpy as np
import pytest

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.impairments import (
    Adc,
    CarrierOffset,
    Interference,
    IqImbalance,
    PhaseNoise,
    WifiNoise,
    awgn,
    impair,
    parse_impairments,
    quantise,
    scrambled,
)
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.models.config import GridConfig

GRID = GridConfig(slots=4, antennas=4, blocks=4)
TIMES = np.arange(42) / 28e3


def flat(batch: int = 4) -> np.ndarray:
    """A channel of ones: what comes out is the impairment alone."""
    return np.ones((batch, 42, 4, 48), np.complex64)


def test_awgn_has_the_asked_power() -> None:
    noisy = awgn(flat(), 4.0, np.array([-10.0, 0.0, 10.0, 20.0]), np.random.default_rng(0))
    power = np.mean(np.abs(noisy - 1) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(10 * np.log10(4 / power), [-10, 0, 10, 20], atol=0.15)


@pytest.mark.parametrize("sinr_db", [-10.0, 5.0, 20.0])
@pytest.mark.parametrize("inr_db", [-10.0, 0.0, 15.0])
def test_sinr_and_inr_measured_are_those_asked(sinr_db: float, inr_db: float) -> None:
    links = embedded_split("unseen")
    sinr = Interference(users=3, inr_db=inr_db)
    batch = draw(links, np.arange(48), GRID, "R1", sinr_db, np.random.default_rng(0), sinr=sinr)
    power = np.mean(np.abs(batch.clean) ** 2, axis=(1, 2, 3))
    disturbance = np.mean(np.abs(batch.observed - batch.clean[:, :42]) ** 2, axis=(1, 2, 3))
    arriving = sum(np.mean(np.abs(h) ** 2, axis=(1, 2, 3)) for h in batch.interferers)
    assert len(batch.interferers) == 3
    assert 10 * np.log10(power / disturbance).mean() == pytest.approx(sinr_db, abs=0.3)
    np.testing.assert_allclose(10 * np.log10(arriving / batch.noise_power), inr_db, atol=0.3)


def test_a_co_channel_user_sends_one_fresh_symbol_to_all_receive_antennas() -> None:
    sent = scrambled(flat(), 2, np.random.default_rng(0)).reshape(4, 42, 2, 2, 48)
    np.testing.assert_array_equal(sent[:, :, 0], sent[:, :, 1])
    np.testing.assert_allclose(np.abs(sent), 1)
    assert abs(sent[:, :, 0, 0].mean()) < 0.03
    assert abs(np.mean(sent[:, :, 0, 0] * sent[:, :, 0, 1].conj())) < 0.03


def test_carrier_offset_turns_by_2_pi_f_t_and_ends_at_zero() -> None:
    seen = impair(flat(), TIMES, [CarrierOffset(200.0)], np.random.default_rng(0))
    turn = np.angle(np.mean(seen[:, 1:] * seen[:, :-1].conj(), axis=(0, 2, 3)))
    np.testing.assert_allclose(turn, 2 * np.pi * 200 / 28e3, atol=3e-3)
    assert abs(np.angle(seen[:, -1].mean())) < 2 * np.pi * 200 / 30e3


def test_a_large_carrier_offset_leaks_between_subcarriers_as_the_sinc_says() -> None:
    """A tone that is `e` subcarriers off keeps sin(pi e) / (N sin(pi e / N)) of its amplitude, the rest is leakage."""
    seen = impair(flat(8), TIMES, [CarrierOffset(6e3)], np.random.default_rng(0))
    kept = np.abs(np.mean(seen, axis=(0, 2, 3)))
    leak = np.mean(np.abs(seen) ** 2) - np.mean(kept**2)
    wanted = np.sin(np.pi * 0.2) / (48 * np.sin(np.pi * 0.2 / 48))
    np.testing.assert_allclose(kept, wanted, atol=0.02)
    assert leak == pytest.approx(1 - wanted**2, rel=0.1)


def test_phase_noise_wanders_by_2_pi_linewidth_t() -> None:
    seen = impair(flat(400), TIMES, [PhaseNoise(5.0)], np.random.default_rng(0))
    phase = np.angle(seen.mean((2, 3)))
    steps = phase[:, 10:] - phase[:, :-10]
    assert np.var(steps) == pytest.approx(2 * np.pi * 5 * 10 / 28e3, rel=0.15)
    assert np.var(phase[:, -1]) < np.var(phase[:, 0]) / 20, "the last observed symbol is the reference"


def test_iq_imbalance_adds_the_mirror_image_at_its_rejection() -> None:
    seen = impair(flat(64), TIMES, [IqImbalance(20.0)], np.random.default_rng(0))
    assert np.mean(np.abs(seen) ** 2) == pytest.approx(1, rel=0.02)
    assert 10 * np.log10(np.mean(np.abs(seen - 1 / np.sqrt(1.01)) ** 2)) == pytest.approx(-20, abs=0.3)


@pytest.mark.parametrize("bits", [4, 6, 8, 10, 12])
def test_a_full_scale_sine_is_quantised_with_6_02_b_plus_1_76_db(bits: int) -> None:
    sine = np.sin(2 * np.pi * np.arange(100_000) * 0.01234567).astype(np.float64)
    error = quantise(sine, bits, 1.0) - sine
    sqnr = 10 * np.log10(np.mean(sine**2) / np.mean(error**2))
    assert sqnr == pytest.approx(6.02 * bits + 1.76, abs=0.6)


def test_the_quantiser_has_2_to_the_b_levels_and_clips() -> None:
    values = quantise(np.linspace(-3, 3, 10_001).astype(np.float32), 3, 1.0)
    assert len(np.unique(values)) == 8
    assert (values.min(), values.max()) == (-0.875, 0.875)


def test_more_bits_of_the_converter_err_less_until_clipping_is_left() -> None:
    channel = draw(embedded_split("train"), np.arange(8), GRID, "R1", 60.0, np.random.default_rng(0)).observed
    errors = []
    for bits in (3, 6, 10, 14):
        seen = impair(channel, TIMES, [Adc(bits)], np.random.default_rng(0))
        errors.append(10 * np.log10(np.mean(np.abs(seen - channel) ** 2) / np.mean(np.abs(channel) ** 2)))
    assert errors[0] - errors[1] == pytest.approx(18, abs=3)
    assert sorted(errors, reverse=True) == errors


def test_no_impairment_changes_nothing_and_a_harmless_one_hardly() -> None:
    channel = draw(embedded_split("train"), np.arange(4), GRID, "R1", 10.0, np.random.default_rng(0)).observed
    assert impair(channel, TIMES, [], np.random.default_rng(0)) is channel
    same = impair(channel, TIMES, [CarrierOffset(0.0), IqImbalance(100.0)], np.random.default_rng(0))
    assert np.mean(np.abs(same - channel) ** 2) < 1e-9 * np.mean(np.abs(channel) ** 2)


def test_measured_noise_comes_at_the_asked_power_and_in_its_own_shape() -> None:
    rng = np.random.default_rng(0)
    residuals = (rng.standard_normal((300, 2, 56)) * np.linspace(0.1, 3, 56)).astype(np.complex64)
    noise = WifiNoise(residuals)
    batch = draw(embedded_split("train"), np.arange(64), GRID, "R1", 5.0, np.random.default_rng(0), noise=noise)
    seen = batch.observed - batch.clean[:, :42]
    assert 10 * np.log10(np.mean(np.abs(batch.clean) ** 2 / np.mean(np.abs(seen) ** 2, (1, 2, 3), keepdims=True))) > 3
    spread = noise.draw((500, 42, 4, 48), rng)
    assert np.mean(np.abs(spread) ** 2) == pytest.approx(1, rel=0.05)
    assert not batch.white


def test_text_becomes_impairments_in_its_order() -> None:
    hardware, noise = parse_impairments("adc=6, cfo=-200,phase-noise=10,iq=30")
    assert hardware == (Adc(6), CarrierOffset(-200.0), PhaseNoise(10.0), IqImbalance(30.0))
    assert noise is None
    assert parse_impairments("") == ((), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cof=1", "did you mean 'cfo'"),
        ("cfo", "cfo= is not -15000 to 15000 Hz"),
        ("cfo=1e9", "is not -15000 to 15000 Hz"),
        ("adc=2.5", "1 to 24 bits"),
        ("adc=nan", "1 to 24 bits"),
        ("iq=-3", "0 to 100 dB"),
        ("cfo=1,cfo=2", "twice"),
    ],
)
def test_text_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_impairments(text)


def test_impossible_interference_and_residuals_are_refused() -> None:
    with pytest.raises(InputError, match="1 to 16 users"):
        Interference(users=0)
    with pytest.raises(InputError, match="wanted finite"):
        WifiNoise(np.full((2, 2, 2), np.nan, np.complex64))
    one = embedded_split("train").select(np.array([0]))
    with pytest.raises(InputError, match="needs another link"):
        draw(one, np.array([0]), GRID, "R1", 0.0, np.random.default_rng(0), sinr=Interference())


@pytest.mark.skipif("SPIKEPORT_DATA" not in os.environ, reason="the measured captures are in SPIKEPORT_DATA")
def test_a_capture_of_the_evaluation_data_is_noise() -> None:
    file = Path(os.environ["SPIKEPORT_DATA"]) / "measured" / "measured_wifi_csi.npz"
    hardware, noise = parse_impairments(f"wifi={file}#ax200_b,adc=8")
    assert hardware == (Adc(8),)
    assert noise is not None
    assert str(noise) == "noise of measured_wifi_csi.npz ax200_b"
    assert np.mean(np.abs(noise.draw((200, 42, 4, 48), np.random.default_rng(0))) ** 2) == pytest.approx(1, rel=0.2)
