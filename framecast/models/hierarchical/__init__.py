"""Hierarchical long-term prediction (Wichers, Villegas, Erhan, Lee, ICML 2018)."""
