"""Scores of forecasts on held-out clips, and comparisons under one protocol."""
