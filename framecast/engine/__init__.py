"""Training: state, one step, checkpoints, devices, logs. Knows models/base.py, never a concrete model or source."""
