"""Pre-training and prediction losses, one file each."""
