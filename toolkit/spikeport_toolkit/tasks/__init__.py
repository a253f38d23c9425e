"""Downstream tasks, each with its benchmark."""
