"""Training: configuration, the loop, one step, state, checkpoints, devices and logs."""
