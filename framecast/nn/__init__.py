"""Layers and losses that at least two models use identically. Imports nothing of the house."""
