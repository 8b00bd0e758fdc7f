"""Evaluation of a detector: losses, mean average precision, curves and confusions."""

from typing import Any

import keraslite as keras
from hub.detection import pictures
from hub.detection.metrics import DetectionConfusionMatrix, MeanAveragePrecision
from hub.tasks.image.detector_arrays import BATCH_SIZE, is_ready, ready_data
from keraslite import ops
from keraslite.training.data import StreamData

_LEAST_CONFIDENCE = 0.001  # of the detections that mean average precision is computed of


class DetectorEvaluation:
    """The part of a detector that evaluates: a base class beside that of its modality.

    mypy, which reads this class alone, does not know the methods of the task.
    """

    def evaluate(
        self, x: Any = None, y: Any = None, batch_size: int | None = None,
        verbose: str | int = "auto", steps: int | None = None, callbacks: Any = None,
        return_dict: bool = False, max_detections: int = 100, sample_weight: Any = None,
        on_error: str = "raise",
    ) -> Any:  # fmt: skip
        """Return the loss and its parts, and COCO's mean average precisions and recalls.

        Boxes are compared in pixels of the inputs, in which small, medium and large are meant too.

        Args:
            x: as for `fit`; of a data.yaml the part "val".
            y: as for `fit`.
            batch_size: pictures in a batch, 16 by default.
            verbose: as for `Model.evaluate`.
            steps: the number of batches.
            callbacks: callbacks.
            return_dict: whether the result is a dict by name rather than a list.
            max_detections: of a picture and a class.
            sample_weight: must be None.
            on_error: as for `fit`.

        Raises:
            ValueError: as of `fit`.
        """
        if sample_weight is not None:
            raise ValueError("Detectors are evaluated without sample_weight.")
        self._assert_compiled("evaluate")
        metric = MeanAveragePrecision(max_detections=max_detections)
        logs = self._measure(
            metric, x, y, batch_size, on_error, verbose=verbose, steps=steps, callbacks=callbacks
        )
        logs |= metric.result()
        return logs if return_dict else list(logs.values())

    def _measure(
        self,
        metric: Any,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the losses over data, while a metric looks at all detections."""
        if not self.compiled:
            self.compile()
        if is_ready(x, self.preprocessor):
            data = ready_data(x, y, self.bounding_box_format, batch_size or BATCH_SIZE)
        else:
            dataset = self._dataset(x, y, "val", on_error)
            data = StreamData(dataset.batches(batch_size or BATCH_SIZE, self.preprocessor))
        self.__dict__["_kl_metric"] = metric
        try:
            return keras.Model.evaluate(self, data, return_dict=True, **kwargs)
        finally:
            del self.__dict__["_kl_metric"]

    def plot_curves(
        self, x: Any, y: Any = None, path: Any = None, batch_size: int | None = None
    ) -> Any:
        """Draw precision over recall, and both and their F1 over the confidence, for each class.

        Args:
            x: as for `evaluate`.
            y: as for `evaluate`.
            path: of a file to write instead.
            batch_size: pictures in a batch.

        Returns:
            A figure of matplotlib, where it is not written.

        Raises:
            ImportError: matplotlib is not installed.
        """
        metric = MeanAveragePrecision()
        self._measure(metric, x, y, batch_size, verbose=0)
        return pictures.plot_curves(metric.curves(), self.labels, path)

    def plot_confusion_matrix(
        self, x: Any, y: Any = None, normalize: bool = False, path: Any = None,
        batch_size: int | None = None,
    ) -> Any:  # fmt: skip
        """Draw how often each class was taken for each other, missed, or seen in the background.

        Args:
            x: as for `evaluate`.
            y: as for `evaluate`.
            normalize: whether rows are shares of the true class rather than counts.
            path: of a file to write instead.
            batch_size: pictures in a batch.

        Returns:
            A figure of matplotlib, where it is not written.

        Raises:
            ImportError: matplotlib is not installed.
        """
        metric = DetectionConfusionMatrix(self.num_classes)
        self._measure(metric, x, y, batch_size, verbose=0)
        return pictures.plot_detection_confusion(metric.result(), self.labels, normalize, path)

    def make_test_function(self, force: bool = False) -> Any:
        """Return a function of batches that gives logs; `evaluate` looks at its outputs too."""
        step = self._function("test", self._detecting_step)

        def run(*batches: Any) -> Any:
            logs: dict[str, Any] = {}
            for batch in batches:
                logs, outputs = step(batch)
                metric = self.__dict__.get("_kl_metric")
                if metric is not None:
                    metric.update_state(batch[1], self._detections(
                        outputs, batch[0].shape, _LEAST_CONFIDENCE, multi_label=True
                    ))  # fmt: skip
            return logs

        return run

    def _detecting_step(self, data: Any) -> tuple[dict[str, Any], Any]:
        """Return the logs of a batch, and the outputs."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        outputs = self(x, training=False)
        loss = self.compute_loss(x, y, outputs, training=False)
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(x)[0])
        return self.compute_metrics(x, y, outputs), outputs
