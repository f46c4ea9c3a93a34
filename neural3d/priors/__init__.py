"""Generative models of pictures, latents, poses and motion, one file a family. They serve 3D work as priors.

A new one is one file, one line here, one test; what several stand on lies in a module that is no prior.
"""

PRIORS = {
    "eonade": "neural3d.priors.eonade:Eonade",
    "fvsbn": "neural3d.priors.fvsbn:Fvsbn",
    "made": "neural3d.priors.made:Made",
    "nade": "neural3d.priors.nade:Nade",
    "pixelcnn": "neural3d.priors.pixelcnn:PixelCnn",
    "pixelrnn": "neural3d.priors.pixelrnn:PixelRnn",
    "rnade": "neural3d.priors.rnade:Rnade",
}
