"""`python -m neural3d`, as torchrun starts it: `torchrun --nproc-per-node 8 -m neural3d train SCENE`."""

from neural3d.cli import main

main()
