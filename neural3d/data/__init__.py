"""Where batches come from, one module a kind: pixels, whole photos, points, pictures of many objects."""
