"""Models as files for where they are served: SavedModel, ONNX, LiteRT, StableHLO and others."""
