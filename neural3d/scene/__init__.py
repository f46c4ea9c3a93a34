"""Scenes: views with cameras in a normalised frame, and the readers of captures that they come from."""

from neural3d.scene.scene import Data, Fitted, Scene, View

__all__ = ["Data", "Fitted", "Scene", "View"]
