"""Ways to represent and optimise one scene, one file each."""
