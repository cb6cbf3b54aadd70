"""The Fourier engine: GalSim's physics in TensorFlow, whole batches at a time, differentiable."""
