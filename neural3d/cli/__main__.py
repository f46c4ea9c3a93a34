"""`python -m neural3d.cli`."""

from neural3d.cli import main

main()
