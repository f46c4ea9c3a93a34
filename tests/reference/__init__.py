"""The obvious, slow implementations that the kernels are held against."""
