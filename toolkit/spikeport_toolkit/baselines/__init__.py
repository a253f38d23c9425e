"""Predictors without a network: every plot shows them beside the models."""
