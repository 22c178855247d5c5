"""Generated data: games, simulated scenes and drawn shapes."""
