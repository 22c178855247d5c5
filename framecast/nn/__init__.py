"""Layers and losses without a configuration of their own. Imports `framecast.core` only."""
