"""Callbacks: hooks into training, evaluation and prediction, under their Keras names."""

from keraslite.callbacks.averages import SwapEMAWeights
from keraslite.callbacks.backup import BackupAndRestore
from keraslite.callbacks.base import Callback, History
from keraslite.callbacks.callback_list import CallbackList
from keraslite.callbacks.monitor import (
    EarlyStopping,
    ModelCheckpoint,
    MonitorCallback,
    ReduceLROnPlateau,
)
from keraslite.callbacks.orbax_checkpoint import OrbaxCheckpoint
from keraslite.callbacks.progress import ProgbarLogger, ProgressBar
from keraslite.callbacks.remote import RemoteMonitor
from keraslite.callbacks.simple import (
    CSVLogger,
    LambdaCallback,
    LearningRateScheduler,
    TerminateOnNaN,
)
from keraslite.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History",
    "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint", "MonitorCallback",
    "OrbaxCheckpoint", "ProgbarLogger", "ProgressBar", "ReduceLROnPlateau", "RemoteMonitor",
    "SwapEMAWeights", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip
