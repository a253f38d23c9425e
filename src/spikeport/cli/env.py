"""`spikeport env`: environments of the simulators that cannot share ours."""

from __future__ import annotations

import json

from cyclopts import App

from .output import DEFAULTS, Common, progress, say

app = App(name="env", help="Make, list or remove the environments of simulators.", help_format="plaintext")


@app.command
def make(name: str, *, common: Common = DEFAULTS) -> None:
    """Make the environment of a simulator that cannot share ours; one that is made is kept.

    Parameters
    ----------
    name
        An environment, as `spikeport env list` names it.
    """
    from spikeport_targets.environments import environment, make_environment

    found = environment(name)
    if not found.made:
        with progress(common) as advance:
            advance(f"making {name}: {found.holds}, {found.licence}", 0, 1)
            found = make_environment(name)
            advance(f"making {name}: {found.holds}, {found.licence}", 1, 1)
    if common.json:
        print(json.dumps(found.to_dict(), indent=2))
    say(f"{found.summary()}, in {found.folder}", common)


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the environments: what each holds, its licence, and whether it is made."""
    from spikeport_targets.environments import environments

    found = environments()
    if common.json:
        print(json.dumps([each.to_dict() for each in found], indent=2))
    for each in found:
        say(each.summary(), common)


@app.command
def remove(name: str, *, common: Common = DEFAULTS) -> None:
    """Remove an environment.

    Parameters
    ----------
    name
        An environment, as `spikeport env list` names it.
    """
    from spikeport_targets.environments import remove_environment

    there = remove_environment(name)
    if common.json:
        print(json.dumps({"name": name, "removed": there}))
    say(f"{name}: {'removed' if there else 'there was none'}", common)
