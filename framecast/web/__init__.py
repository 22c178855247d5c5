"""A model's dream in the browser: `framecast play`."""
