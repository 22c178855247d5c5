"""Direct multi-horizon prediction: every future frame from the real context, none from another forecast."""
