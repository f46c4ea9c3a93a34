"""Damaged inputs: see corpus.py."""
