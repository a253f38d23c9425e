"""`python -m spikeport`, for torchrun."""

from .cli import main

main()
