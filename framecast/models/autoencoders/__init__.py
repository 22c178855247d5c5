"""Fourteen generative autoencoders for next-frame prediction."""
