"""Numbers people can trust: functions on frames, and accumulators over clips."""
