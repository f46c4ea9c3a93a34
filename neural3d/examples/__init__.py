"""Many arrays of one shape: pictures, latents, poses. What priors learn from."""
