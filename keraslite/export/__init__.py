"""Models as files for where they are served: SavedModel, ONNX, LiteRT, StableHLO and others."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keraslite.export.archive import ExportArchive

__all__ = ["ExportArchive"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    from keraslite.export.archive import ExportArchive  # when it is asked for

    globals()[name] = ExportArchive
    return ExportArchive


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
