"""Parametric bodies: SMPL-family models and Anny as data for one class, and motions that move them."""
