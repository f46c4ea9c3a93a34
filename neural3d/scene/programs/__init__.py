"""Readers of what other photogrammetry programs export, one module per program; `scene/readers.py` lists them.

files.py finds the photos that an exporter's file names and makes frames of them; brown.py brings lenses to COLMAP's
models.
"""
