"""Protocols and scores, one module a subject: views, a mesh, a category."""
