"""Weights that Keras saved layer by layer in an `.h5` file, as those of its applications."""


def load_legacy_weights(model, path):
    raise NotImplementedError
