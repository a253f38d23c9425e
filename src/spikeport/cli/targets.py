"""`spikeport targets`: the target cards."""

from __future__ import annotations

import json

from cyclopts import App

from .output import DEFAULTS, Common, say

app = App(name="targets", help="List the targets, or show one card.", help_format="plaintext")


@app.default
def targets(*, common: Common = DEFAULTS) -> None:
    """List targets: id, what it is, what is written for it, and whether it can run here."""
    from spikeport_targets.card import list_cards

    cards = list_cards()
    if common.json:
        print(json.dumps([card.to_dict() for card in cards], indent=2))
        return
    for card in cards:
        say(card.summary(), common)


@app.command
def show(target: str, *, common: Common = DEFAULTS) -> None:
    """Show one card: limits, and every constant with its range, unit, basis and source.

    Parameters
    ----------
    target
        A target's id, as `spikeport targets` lists it, or a card file (.toml).
    """
    from spikeport_targets.card import load_card
    from spikeport_targets.text import card_text

    card = load_card(target)
    if common.json:
        print(json.dumps(card.to_dict(), indent=2))
    else:
        say(card_text(card), common)
