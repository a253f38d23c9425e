"""The training core: channels, models, objectives, tasks, baselines, recipes."""
