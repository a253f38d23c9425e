"""Channels: path schema, store, synthesis, sampling, patches and the ray-tracing generator."""
