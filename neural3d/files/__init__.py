"""The formats in which meshes, clouds and splats travel."""
