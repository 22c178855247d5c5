"""VAE and mixture-density RNN (Ha and Schmidhuber 2018)."""
