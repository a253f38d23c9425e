"""Training recipes (TOML)."""
