"""Types, errors, configuration, files and seeds that every other package uses."""
