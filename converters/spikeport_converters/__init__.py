"""Converters: from a model to a bundle that runs on a target, and the proof that it computes the same."""
