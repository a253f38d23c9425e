"""`spikeport evaluate`: how well a model predicts channels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .output import DEFAULTS, Common, Whole, progress, say, show


def evaluate(
    model: str,
    *,
    out: Path | None = None,
    task: str = "channel-prediction",
    snr: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    compare: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    islands: str | None = None,
    baselines: str = "",
    sinr: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    impairments: str = "",
    labels: str | None = None,
    adaptation: str | None = None,
    data: Path | None = None,
    links: Whole | None = None,
    seed: Whole = 0,
    seeds: Whole | None = None,
    common: Common = DEFAULTS,
) -> None:
    """How well a model predicts, estimates, compresses or locates channels, beside baselines.

    Parameters
    ----------
    model
        Preset, checkpoint folder, file.py:factory, or a bundle: then the artefact is run as it would be there.
        `baselines`: the baselines alone.
    out
        Folder for evaluation.json.
    task
        channel-prediction: NMSE over SNR against clean truth, in seen and unseen cities and both slot spacings.
        frequency-prediction, channel-estimation: NMSE over SNR; csi-feedback: NMSE over compression;
        positioning: error in m; charting: trustworthiness; los, beam: accuracy.
    snr
        low:high:step in dB (default: -10:30:5), or one number (positioning and charting: 20).
    compare
        Another model or bundle on the same samples (repeatable).
    islands
        Runtime for the islands of NIR bundles (reference is fast); default: their own simulators.
    baselines
        all, or names with commas between, beside last-value, wiener, lmmse and genie: slot-mean, ar, pad, kalman,
        wiener-2x1d, wiener-threshold, lstm, gru.
    sinr
        low:high:step in dB in place of --snr: noise and, of the same power, two co-channel users.
    impairments
        name=value with commas between: cfo=HZ, phase-noise=LINEWIDTH_HZ, iq=REJECTION_DB, adc=BITS,
        wifi=FILE or FILE#CAPTURE of measured frames.
    labels
        Numbers of labelled links, commas between, as 50,200: of the cities or the base station that is tested.
    adaptation
        probe (default: a linear read-out of frozen features), last-k, lora, full; frequency-prediction: zero-shot.
    data
        Folder of path sets or of stored channels (los, beam: also DeepMIMO scenarios); default: the embedded cities.
    links
        Test links per point; default: 500 (channel-prediction, los, beam), 200 or, per base station, 100.
    seed
        Seed of links, motion and noise.
    seeds
        How many seeds, from --seed on, draw links and labels; default: 1, 5 (positioning) or 20 (los, beam).
    """
    from spikeport import api
    from spikeport_toolkit.models.load import is_trained

    with progress(common) as advance:
        result = api.evaluate(
            model,
            out=out,
            task=task,
            snr=snr,
            compare=compare,
            islands=islands,
            baselines=baselines,
            sinr=sinr,
            impairments=impairments,
            labels=labels,
            adaptation=adaptation,
            data=data,
            links=links,
            seed=seed,
            seeds=seeds,
            progress=advance,
        )
    show(result, common)
    if result.model != api.BASELINES_ALONE and not is_trained(result.model):
        print(
            f"note: {result.model} ships no trained weights: these figures are those of random weights", file=sys.stderr
        )
    if out is not None:
        say(f"\nwrote {out / 'evaluation.json'}; next: spikeport report {out}", common)
