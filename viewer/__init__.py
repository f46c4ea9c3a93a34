"""The Open3D viewer."""
