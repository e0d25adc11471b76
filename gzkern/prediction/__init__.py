"""Prediction: answers for arrays, for rows of a data set, and for files."""
