"""From photos or a film to a capture with poses; COLMAP works in a process of its own (worker/)."""
