"""Scenes and shapes made by formulas."""
