"""Latent spaces of trained predictors: traversals, statistics, motions."""
