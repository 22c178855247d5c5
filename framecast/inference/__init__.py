"""Using a trained predictor: loading, forecasting, exporting."""
