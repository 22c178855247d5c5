"""Video, image and drawing files in and out. Imports nothing of the house but its types."""
