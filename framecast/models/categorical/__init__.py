"""Categorical next-frame prediction over a palette of colours, for playable worlds."""
