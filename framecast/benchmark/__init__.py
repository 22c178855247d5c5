"""Training many models under equal budgets, then comparing them."""
