"""Figures of what explains the mesh: one module for each."""
