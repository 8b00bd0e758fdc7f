"""The image networks of `keras.applications`, a file a family."""
