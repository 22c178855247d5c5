"""Video, image and drawing files in and out. Imports only the types of framecast.core."""
