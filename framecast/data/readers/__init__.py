"""Readers of video formats that people have."""
