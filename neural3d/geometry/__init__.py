"""Rotations, cameras, rays and meshes."""
