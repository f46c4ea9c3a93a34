"""Structure from motion by COLMAP, in a process of its own: `python -m neural3d.sfm`, started by `neural3d.sfm.solve`.

Alone, because native code that fails takes its process along, logs to stderr, and brings a SQLite and an OpenMP of its
own: two copies of SQLite in one process corrupt a database. Imports numpy and pycolmap only, so that it starts at once.
"""
