"""Measurements: every claim of speed in this project is a row that one of these commands prints."""
