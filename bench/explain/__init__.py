"""Figures of the commands that explain; each module is run by itself."""
