"""Speed and memory, measured: each script beside the ceiling of the machine, taken in the same run.

    python -m benchmarks                    all of them, rows appended to benchmarks/results.jsonl
    python -m benchmarks.training_step      one of them
    python -m benchmarks --tiny             each in seconds, to see that they run; nothing is kept

A row is one line of JSON (see `row.Row`): the figure, the ceiling in the same unit, their ratio, and on what it ran.
"""
