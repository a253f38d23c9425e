"""The reading guide: every word that the page uses and a reader may not know, with what it means here."""

from __future__ import annotations

READING_GUIDE = (
    ("measured", "Counted or timed on the thing itself: spikes and operations of the model on calibration inputs."),
    ("simulated", "The outcome of a simulation: channels from ray tracing, spikes in a simulator."),
    (
        "estimated",
        "Counts times published constants. Low and high bound 80 % of the draws over the constants' ranges and the "
        "model's own error; nominal is the middle constants.",
    ),
    ("not published", "Nobody has published a constant that this number needs. It is unknown, not zero."),
    (
        "NMSE",
        "Mean of the squared error over the power of the noise-free channel, in dB. Lower is better; 0 dB is as good "
        "as predicting nothing. Bands are 95 % intervals of the mean over test links.",
    ),
    (
        "R1, R2",
        "R1: slots of 0.5 ms follow one another without a gap. R2: slots start 5 ms apart. The last slot is predicted "
        "from the noisy ones before it.",
    ),
    ("In-domain, unseen", "Held-out links from the cities of the training set, and cities the model never saw."),
    (
        "Pareto front",
        "The points that no other beats in both NMSE and cost, by nominal values. Where intervals overlap, the order "
        "may be otherwise.",
    ),
    (
        "Slot",
        "0.5 ms: one slot of 14 symbols at 30 kHz subcarrier spacing, the time after which the next prediction is due.",
    ),
    (
        "Lower mean NMSE",
        "The mean over test links is lower. Each mean has its interval; none is kept for their paired difference, so "
        "it is no claim of a win.",
    ),
    (
        "Twin",
        "The same network with a quantised activation in place of the spiking neuron and the same normalisation: what "
        "spiking itself costs or saves.",
    ),
    ("SynOps", "Synaptic operations: emitted spikes times the weights each of them reaches."),
    (
        "Event, system, host",
        "Energy of operations and spikes; of chips and boards that are on meanwhile; of the computer that runs the "
        "parts the chip cannot.",
    ),
)
