"""Our kernels, one module each; every one is usable on its own."""
