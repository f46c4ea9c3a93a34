"""One scene in cells, each trained in a process of its own, and joined: `neural3d train --set partition=true`.

plan.py: an overview of the whole first, then the cells, as scenes (TOML) · sight.py: what photos see of the overview ·
cut.py: the ground in cells of equal work · work.py: all of it, with the cells as jobs of `neural3d.batch` · join.py:
one run of their splats. As tiles for the web they are written by `files.tiles`.

RUN/overview/whole.toml, RUN/overview/whole/run   few splats of all photos, made small
RUN/cells/NAME.toml, RUN/cells/NAME/run           a cell, and the same for each
RUN/checkpoint.safetensors                        their splats, once all are done
"""
