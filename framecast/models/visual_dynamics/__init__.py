"""Cross convolutional networks (Xue, Wu, Bouman, Freeman, NIPS 2016)."""
