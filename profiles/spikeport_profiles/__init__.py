"""What a model costs: a trace of its work, estimates per target, and the report."""
