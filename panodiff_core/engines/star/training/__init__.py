"""Training STAR: the codebook, the generator on single faces, FaceRay and the masked sampler on cubes."""
