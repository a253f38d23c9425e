"""Modules that `environments` copies into an environment; nothing here imports them."""
