"""Generative models of pictures, latents, poses and motion, one file a family. They serve 3D work as priors.

A new one is one file, one line here, one test; what several stand on lies in a module that is no prior.
"""

PRIORS = {
    "ae": "neural3d.priors.ae:Ae",
    "beta-vae": "neural3d.priors.beta_vae:BetaVae",
    "cflow": "neural3d.priors.cflow:CFlow",
    "dbm": "neural3d.priors.dbm:Dbm",
    "eonade": "neural3d.priors.eonade:Eonade",
    "fvsbn": "neural3d.priors.fvsbn:Fvsbn",
    "glow": "neural3d.priors.glow:Glow",
    "gsn": "neural3d.priors.gsn:Gsn",
    "lstm": "neural3d.priors.lstm:Lstm",
    "m2": "neural3d.priors.m2:M2",
    "made": "neural3d.priors.made:Made",
    "nade": "neural3d.priors.nade:Nade",
    "pca": "neural3d.priors.pca:Pca",
    "pixelcnn": "neural3d.priors.pixelcnn:PixelCnn",
    "pixelrnn": "neural3d.priors.pixelrnn:PixelRnn",
    "rbm": "neural3d.priors.rbm:Rbm",
    "realnvp": "neural3d.priors.realnvp:RealNvp",
    "rnade": "neural3d.priors.rnade:Rnade",
    "srflow": "neural3d.priors.srflow:SrFlow",
    "styleflow": "neural3d.priors.styleflow:StyleFlow",
    "transformer": "neural3d.priors.transformer:Transformer",
    "vae": "neural3d.priors.vae:Vae",
    "vqvae": "neural3d.priors.vqvae:VqVae",
    "vrnn": "neural3d.priors.vrnn:Vrnn",
    "wavenet": "neural3d.priors.wavenet:WaveNet",
}
