"""Models as files for where they are served: SavedModel, ONNX, LiteRT, StableHLO and others."""

from keraslite.export.archive import ExportArchive

__all__ = ["ExportArchive"]
