"""Studies that a decision of the project rests on."""
