"""Scenes: views with cameras in a normalised frame, read from any of the usual captures."""

from neural3d.loading import load_scene
from neural3d.scene.scene import Scene, View

__all__ = ["Scene", "View", "load_scene"]
