"""Exportable: the methods of a model that give it to other programs."""

from typing import TYPE_CHECKING, Any

from keraslite import tree
from keraslite.symbolic import KerasTensor

if TYPE_CHECKING:
    from keraslite.export.compiled import CompiledPredictor


class Exportable:
    """The methods of a model for files of other programs, and for other engines."""

    def export(
        self, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None,
        input_signature: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Write a copy of the model for another program to run, whatever backend it lives on.

        Inputs and outputs have the model's names, and free axes stay free. Random state and
        metrics are left out; the model itself is unchanged.

        Args:
            filepath: the file; for "tf_saved_model" and "tfjs" the folder.
            format: "tf_saved_model", "onnx", "openvino" (.xml), "litert" (.tflite), "tfjs", "torch"
                (.pt2), "executorch" (.pte) or "stablehlo".
            verbose: whether a line says what was written; True by default.
            input_signature: a structure for each argument of a call, of InputSpecs, KerasTensors or
                tensors; what the model was built with by default.
            kwargs: options of the format: `opset_version` of "onnx"; attributes of
                `tf.lite.TFLiteConverter` for "litert"; `compress_to_fp16` of "openvino"; arguments
                of `torch.export.export` for "torch"; `max_sizes` (by axis) and `partitioner` of
                "executorch"; `max_sizes`, `platforms` and `vjp_order` of "stablehlo"; `options`
                (`tf.saved_model.SaveOptions`) of "tf_saved_model".

        Raises:
            ValueError: there is no such format, the file's name has another ending, or the model is
                not built.
            ImportError: a package that the format needs is not installed.
            NotImplementedError: the format cannot hold a layer or an operation of the model.
            OSError: the file could not be written; what was there before is unchanged.

        Source: Keras 3, `keras.Model.export`.

        Example:
            >>> import tempfile, tensorflow as tf
            >>> model = models.Sequential([layers.Input((4,), name="x"), layers.Dense(2)])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.export(folder, verbose=False)
            ...     served = tf.saved_model.load(folder)
            >>> served.serve(tf.ones((3, 4))).shape.as_list()
            [3, 2]
        """
        from keraslite.export.formats import export_model

        export_model(self, filepath, format, verbose, input_signature, **kwargs)

    def export_metadata(self) -> dict[str, str]:
        """Return what exported files say of the model beside its name, such as labels, as texts.

        Example:
            >>> models.Model().export_metadata()
            {}
        """
        return {}

    def export_inputs(self) -> list[Any] | None:
        """Return symbolic inputs, nested, for each argument of a call that an export has.

        Sizes that differ between the `symbolic_inputs` of a subclass are free. None where nothing
        but the calls of the model tells what it takes.
        """
        graph = self.get_graph()
        if graph is not None:
            return [graph.inputs]
        first, *others = self.symbolic_inputs() or [None]
        if not others:
            return None

        def merged(x: Any, *more: Any) -> KerasTensor:
            sizes = zip(*(y.shape for y in (x, *more)), strict=True)
            shape = tuple(size[0] if len({*size}) == 1 else None for size in sizes)
            return KerasTensor(shape, x.dtype)

        return [tree.map_structure(merged, first, *others)]

    def compiled_for(
        self, engine: str, precision: str = "float32", input_signature: Any = None
    ) -> "CompiledPredictor":  # fmt: skip
        """Return a predictor that runs a copy of the model on another engine, on the CPU.

        The network is made anew at the next call after the weights of the model have changed.

        Args:
            engine: "openvino" (which needs TensorFlow too) or "onnxruntime" (torch).
            precision: "float32"; "bfloat16" on OpenVINO, if the processor has it; or "int8" on
                onnxruntime, for products.
            input_signature: what the inputs are, where the model does not tell: a KerasTensor or
                InputSpec for each, nested.

        Returns:
            A callable with `predict`, which takes and gives what `Model.predict` does.

        Raises:
            ImportError: the engine is not installed.
            NotImplementedError: the engine lacks an operation of the model, or the precision.
            ValueError: there is no such engine or precision, or the model is not built.

        Example:
            >>> model = models.Sequential([layers.Input((4,)), layers.Dense(2)])
            >>> fast = model.compiled_for("openvino")
            >>> x = np.ones((3, 4), "float32")
            >>> bool(np.allclose(fast.predict(x, verbose=0), model.predict(x, verbose=0)))
            True
        """
        from keraslite.export.compiled import CompiledPredictor

        return CompiledPredictor(self, engine, precision, input_signature)
