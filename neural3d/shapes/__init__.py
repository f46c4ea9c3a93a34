"""Shapes (meshes and clouds) and sets of them: what is learned from instead of photos."""
