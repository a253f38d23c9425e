"""The app: commands by name, lazily loaded; every error of ours becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnknownCommandError
from rich.console import Console

from spikeport_errors import SpikeportError, unknown_name

from .. import __version__

COMMANDS = {
    "demo": ("demo:demo", "Run the whole flow on the shipped model and cities; ends with a report."),
    "doctor": ("doctor:doctor", "Say what is installed and what each target would need."),
    "models": ("models:app", "List the model presets, show one, or import published weights."),
    "targets": ("targets:app", "List the targets, or show one card."),
    "recipes": ("recipes:recipes", "List the training recipes."),
    "data": ("data:app", "Make or inspect stores of channel data."),
    "train": ("train:train", "Run a training recipe."),
    "evaluate": ("evaluate:evaluate", "How well a model does a task, beside baselines."),
    "plan": ("plan:plan", "Say what each part of a model becomes on a target."),
    "export": ("export:export", "Write a bundle for a target, and run it."),
    "check": ("check:check", "Verify a bundle's hashes, then its parity again."),
    "conformance": ("conformance:conformance", "Simulators against SpikingJelly, spike by spike."),
    "profile": ("profile:profile", "Spikes, operations, energy and latency per target."),
    "env": ("env:app", "Make, list or remove the environments of simulators."),
    "report": ("report:report", "One HTML page over run folders."),
}

EPILOGUE = """MODEL is a preset (`spikeport models`), a checkpoint folder, or file.py:factory.
Exit codes: 0 fine, 1 a check failed (parity, hashes), 2 usage or environment."""

app = App(
    name="spikeport",
    help="Port hybrid spiking transformers to Jetson-class GPUs and neuromorphic targets, and say what they cost.",
    help_epilogue=EPILOGUE,
    version=__version__,
    help_format="plaintext",
)
for _name, (_place, _help) in COMMANDS.items():
    app.command(f"spikeport.cli.{_place}", name=_name, help=_help)


def run(tokens: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    try:
        result = app(list(tokens), exit_on_error=False, print_error=False, result_action="return_value")
    except SpikeportError as error:
        if "-v" in tokens or "--verbose" in tokens:
            raise
        return _fail(str(error), error.exit_code)
    except UnknownCommandError:
        word = next((token for token in tokens if not token.startswith("-") and token not in COMMANDS), tokens[0])
        return _fail(str(unknown_name("command", word, COMMANDS, "`spikeport --help` says what they do")), 2)
    except CycloptsError as error:
        return _fail(" ".join(str(error).split()).rstrip(".") + "; see `spikeport --help`", 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail("out of memory: take fewer --samples or --links, or a smaller model", 2)
    except OSError as error:
        if "-v" in tokens or "--verbose" in tokens:
            raise
        place = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}: check the path, its permissions and the free space", 2)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[bold red]error:[/bold red]", end=" ")
    console.print(message, markup=False)
    return code
