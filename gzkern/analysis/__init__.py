"""Evaluation of predictions against the volunteers' answers."""
