"""Common code of the applications: arguments, classifiers, weights, preprocessing."""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import dtypes, layers, ops
from keraslite.saving import load_legacy_weights

CLASSES = 1000
_CLASS_INDEX = (
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)
# (mean, standard deviation) of the channels, of pixels from 0 to 255.
_IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
_CAFFE = [103.939, 116.779, 123.68]  # blue, green, red


def channel_axis() -> int:
    """Return the axis of the channels of a batch of images."""
    return 3 if keras.config.image_data_format() == "channels_last" else 1


def batch_norm(x: Any, name: str | None, epsilon: float = 1e-3, **kwargs: Any) -> Any:
    """Normalise over a batch.

    Args:
        x: images.
        name: of the layer.
        epsilon: added to the variance.
        kwargs: further arguments of `layers.BatchNormalization`.
    """
    return layers.BatchNormalization(axis=channel_axis(), epsilon=epsilon, name=name, **kwargs)(x)


def activate(x: Any, name: str | None, activation: Any = "relu") -> Any:
    """Apply an activation in a layer of its own.

    Args:
        x: images.
        name: of the layer.
        activation: the activation.
    """
    return layers.Activation(activation, name=name)(x)


def padded_conv(
    x: Any, filters: int, size: int, stride: int, name: str, **kwargs: Any
) -> Any:  # fmt: skip
    """Convolve, padded on all sides alike where the stride is 2, as in PyTorch.

    Args:
        x: images.
        filters: of the convolution.
        size: of its kernel.
        stride: of the convolution.
        name: the prefix of the layers.
        kwargs: further arguments of `layers.Conv2D`.
    """
    padding = ((size // 2, size // 2),) * 2 if stride > 1 else "same"
    return layers.Conv2D(filters, size, stride, padding, name=f"{name}_conv", **kwargs)(x)


def padded_max_pool(x: Any, name: str) -> Any:
    """Halve the size by the maxima of 3 x 3 values, padded on all sides alike, as in PyTorch.

    Args:
        x: images, whose values may be negative.
        name: of the pooling.
    """
    height = 1 if channel_axis() == 3 else 2
    padding = [(1, 1) if axis in (height, height + 1) else (0, 0) for axis in range(4)]
    x = ops.pad(x, padding, constant_values=-np.inf)
    return layers.MaxPooling2D(3, strides=2, name=name)(x)


def excite(
    x: Any, squeezed: int, name: str,
    parts: Sequence[str] = ("se_squeeze", "se_reduce", "se_expand", "se_scale"),
    activation: Any = "relu", gate: Any = "sigmoid", reshape: str | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Weight channels by what all positions have in common (Hu et al., 2018, arXiv:1709.01507).

    Args:
        x: images.
        squeezed: the filters of the first of two convolutions of the averages.
        name: the prefix of the layers.
        parts: the rest of the names of the pooling, the convolutions and the product.
        activation: of the first convolution; a function is applied behind it.
        gate: of the second convolution, alike.
        reshape: the rest of the name of a layer that gives the averages their axes of length one;
            without it the pooling keeps them.
        kwargs: further arguments of both convolutions.
    """
    pool, reduce, expand, scale = (f"{name}{part}" for part in parts)
    filters = x.shape[channel_axis()]
    y = layers.GlobalAveragePooling2D(keepdims=reshape is None, name=pool)(x)
    if reshape is not None:
        shape = (1, 1, filters) if channel_axis() == 3 else (filters, 1, 1)
        y = layers.Reshape(shape, name=f"{name}{reshape}")(y)
    for part, width, function in ((reduce, squeezed, activation), (expand, filters, gate)):
        own = function if callable(function) else None
        y = layers.Conv2D(width, 1, activation=None if own else function, name=part, **kwargs)(y)
        y = own(y) if own else y
    return layers.Multiply(name=scale)([x, y])


def strided_padding(x: Any, kernel_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding of a convolution with stride 2 that gives the output size of "same".

    Args:
        x: images.
        kernel_size: of the convolution.
    """
    first = 2 if channel_axis() == 1 else 1
    half = kernel_size // 2
    odd = [1 if size is None else 1 - size % 2 for size in x.shape[first : first + 2]]
    return (half - odd[0], half), (half - odd[1], half)


# -- building a model -----------------------------------------------------------------------------


def average_top(x: Any, classes: int, activation: Any, dropout: float = 0.0, **kwargs: Any) -> Any:
    """Classify the average over all positions.

    Args:
        x: the features.
        classes: their number.
        activation: of the outputs.
        dropout: before the dense layer.
        kwargs: further arguments of the dense layer.
    """
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout > 0:
        x = layers.Dropout(dropout, name="top_dropout")(x)
    return layers.Dense(classes, activation=activation, name="predictions", **kwargs)(x)


def pool(
    x: Any, pooling: str | None, average: str | None = "avg_pool", maximum: str | None = "max_pool"
) -> Any:
    """Pool the features of a model without a classifier.

    Args:
        x: the features.
        pooling: "avg", "max", or None for none.
        average: the name of the layer that averages.
        maximum: the name of the layer that takes the maximum.
    """
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name=average)(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name=maximum)(x)
    return x


def unnamed_pool(x: Any, pooling: str | None) -> Any:
    """Pool the features of a model in a layer that is named by its number.

    Args:
        x: the features.
        pooling: "avg", "max", or None for none.
    """
    return pool(x, pooling, None, None)


def require_channels_last(family: str) -> None:
    """Check the format of images for a family that Keras has with the channels last only.

    Args:
        family: its name.

    Raises:
        ValueError: the format is "channels_first".
    """
    if channel_axis() == 1:
        raise ValueError(
            f"image_data_format must be 'channels_last' for {family}, got 'channels_first'. Call "
            "keraslite.config.set_image_data_format('channels_last')."
        )


def assemble(
    features: Callable[[Any], Any],
    *,
    name: str,
    include_top: bool,
    weights: str | os.PathLike | None,
    input_tensor: Any,
    input_shape: tuple[int | None, ...] | None,
    pooling: str | None,
    classes: int,
    classifier_activation: Any,
    default_size: int = 224,
    min_size: int = 32,
    top: Callable[[Any, int, Any], Any] = average_top,
    pooled: Callable[[Any, str | None], Any] = pool,
    needs_fixed_size: bool | None = None,
    files: Mapping[str, Any] | str | None = None,
) -> keras.Model:
    """Return an application: its graph, with weights.

    Args:
        features: from images to features.
        name: of the model.
        include_top: whether the classifier is there.
        weights: "imagenet", a file, or None for new ones.
        input_tensor: a KerasTensor to build on.
        input_shape: of an image.
        pooling: of the features without a classifier.
        classes: their number.
        classifier_activation: of the outputs.
        default_size: height and width of an image where no shape is given.
        min_size: the least height and width.
        top: from features to outputs.
        pooled: from features to pooled features.
        needs_fixed_size: whether height and width must be known; with a classifier by default.
        files: the name of the row of Keras's weights in weights.json, or {"top": (address, hash),
            "no_top": ...}.

    Raises:
        ValueError: an argument is not valid, or arguments contradict each other.
    """
    _check(weights, include_top, classes, classifier_activation, pooling)
    shape = image_shape(
        input_shape, default_size, min_size,
        include_top if needs_fixed_size is None else needs_fixed_size, weights,
    )  # fmt: skip
    image = keras.Input(shape) if input_tensor is None else input_tensor
    if not isinstance(image, keras.KerasTensor):
        image = keras.Input(tensor=input_tensor, shape=shape)
    x = features(image)
    x = top(x, classes, classifier_activation) if include_top else pooled(x, pooling)
    inputs = image if input_tensor is None else keras.utils.get_source_inputs(image)
    model = keras.Model(inputs, x, name=name)
    model.replays_predict = True
    if weights == "imagenet":
        load_legacy_weights(model, fetch_weights(files, include_top))
    elif weights is not None:
        load_weights(model, weights)
    return model


def application(
    function: str, features: Callable[[Any], Any], *, model_name: str | None = None, **options: Any
) -> Callable[..., keras.Model]:
    """Return the constructor of an application with the usual arguments.

    Args:
        function: its name.
        features: from images to features.
        model_name: the default name of the model; that of the function in lower case otherwise.
        options: further arguments of `assemble`.
    """

    def constructor(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Any = "softmax",
        name: str = model_name or function.lower(),
    ) -> keras.Model:
        return assemble(
            features, name=name, include_top=include_top, weights=weights,
            input_tensor=input_tensor, input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, files=function, **options,
        )  # fmt: skip

    return describe(constructor, function)


def describe(
    constructor: Callable[..., keras.Model], function: str, **arguments: str
) -> Callable[..., keras.Model]:
    """Give the constructor of an application its name and its documentation.

    Args:
        constructor: the function, of any signature.
        function: its name.
        arguments: what its further arguments mean.
    """
    further = "".join(f"\n        {name}: {text}" for name, text in arguments.items())
    constructor.__name__ = constructor.__qualname__ = function
    constructor.__doc__ = _DOCUMENTATION.format(function=function, further=further)
    return constructor


_DOCUMENTATION = """Return {function} as `keras.applications` builds it.

    Args:
        include_top: whether the classifier is there.
        weights: "imagenet" for those that Keras publishes, a file, or None for new ones.
        input_tensor: a KerasTensor to build on, in place of an input.
        input_shape: the shape of an image; needed only where it is not the default size.
        pooling: of the features without a classifier: None, "avg" or "max".
        classes: their number.
        classifier_activation: of the outputs; None for logits.{further}
        name: of the model.

    Raises:
        ValueError: an argument is not valid, or arguments contradict each other.
    """


def _check(
    weights: Any, include_top: bool, classes: int, classifier_activation: Any, pooling: Any
) -> None:
    is_path = isinstance(weights, str | os.PathLike)
    if weights is not None and not (is_path and (weights == "imagenet" or os.path.exists(weights))):
        raise ValueError(
            f"weights must be None, 'imagenet' or the path of an existing file, got {weights!r}."
        )
    if include_top and (not isinstance(classes, int | np.integer) or classes < 1):
        raise ValueError(f"classes must be a positive integer, got {classes!r}.")
    if weights == "imagenet" and include_top and classes != CLASSES:
        raise ValueError(
            f"classes must be {CLASSES} with weights='imagenet' and include_top=True, got {classes}"
            ". For other classes use include_top=False and a classifier of your own."
        )
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {pooling!r}.")
    if include_top and weights is not None:
        allowed = (None, keras.activations.linear, keras.activations.softmax)
        if keras.activations.get(classifier_activation) not in allowed:
            raise ValueError(
                "classifier_activation must be None or 'softmax' with pretrained weights, got "
                f"{classifier_activation!r}."
            )


def image_shape(
    input_shape: Any, default_size: int, min_size: int, fixed: bool, weights: Any = None
) -> tuple[int | None, ...]:
    """Return the shape of an image that an application takes.

    Args:
        input_shape: the caller's shape, or None.
        default_size: height and width where it is None.
        min_size: the least height and width.
        fixed: whether height and width must be known.
        weights: "imagenet" needs three channels, and with a classifier the default size.

    Raises:
        ValueError: the shape does not fit.

    >>> image_shape(None, 224, 32, fixed=True)
    (224, 224, 3)
    """
    first = keras.config.image_data_format() == "channels_first"

    def shape(height: int | None, width: int | None, channels: int) -> tuple:
        return (channels, height, width) if first else (height, width, channels)

    imagenet = isinstance(weights, str) and weights == "imagenet"
    if input_shape is None:
        return shape(default_size, default_size, 3) if fixed else shape(None, None, 3)
    input_shape = tuple(input_shape)
    if len(input_shape) != 3:
        raise ValueError(f"input_shape must have three numbers, got {input_shape}.")
    channels = input_shape[0] if first else input_shape[-1]
    size = input_shape[1:] if first else input_shape[:-1]
    if imagenet and channels != 3:
        raise ValueError(
            f"input_shape must have 3 channels for weights='imagenet', got {channels}."
        )
    if imagenet and fixed and input_shape != shape(default_size, default_size, 3):
        raise ValueError(
            f"input_shape must be {shape(default_size, default_size, 3)} with weights='imagenet' "
            f"and include_top=True, got {input_shape}."
        )
    if not imagenet and channels not in (1, 3):
        warnings.warn(f"Images usually have 1 or 3 channels, got {channels}.", stacklevel=5)
    if any(edge is not None and edge < min_size for edge in size):
        raise ValueError(f"Images must be at least {min_size} x {min_size}, got {input_shape}.")
    if fixed and None in input_shape:
        raise ValueError(
            f"input_shape must have no None where include_top is True, got {input_shape}."
        )
    return input_shape


# -- weights --------------------------------------------------------------------------------------


def fetch_weights(files: Mapping[str, Any] | str | None, include_top: bool) -> Path:
    """Download the weights that Keras has for an application; return the file.

    The rows of weights.json have the names of the constructors, but for those of MobileNet with the
    width and the size of images: MobileNet_0.25_128, MobileNetV2_1.4_224; MobileNetV3Small_0.75 and
    MobileNetV3Large_1.0_minimalistic, always of size 224. A width is written as a float.

    Args:
        files: as for `assemble`. A third item beside address and hash is the name of the file in
            the cache of Keras.
        include_top: whether with those of the classifier.

    Raises:
        ValueError: there are none.
        OSError: they cannot be downloaded.
    """
    if isinstance(files, str):
        rows = json.loads(
            resources.files(__package__).joinpath("weights.json").read_text(encoding="utf-8")
        )
        files = rows.get(files)
    if files is None:
        raise ValueError("Keras has no weights for this application: use weights=None or a file.")
    address, digest, *name = files["top" if include_top else "no_top"]
    path = keras.utils.get_file(*name, origin=address, cache_subdir="models", file_hash=digest)
    return Path(path)


def load_weights(model: keras.Model, path: Any) -> None:
    """Load weights of a file of ours, or of one that Keras wrote.

    Args:
        model: the model.
        path: a `.h5` file of Keras, or what `Model.load_weights` takes.
    """
    if str(os.fspath(path)).endswith((".h5", ".hdf5")):
        load_legacy_weights(model, Path(path))
    else:
        model.load_weights(path)


# -- images and predictions -----------------------------------------------------------------------


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Return pixels as the weights of an application expect them.

    Args:
        x: RGB pixels from 0 to 255, (height, width, 3) or (batch, height, width, 3). An array of
            floats is changed in place, as in Keras.
        data_format: "channels_last" or "channels_first"; that of the config by default.
        mode: "caffe" (BGR around the mean of ImageNet), "tf" (from -1 to 1), or "torch" (divided by
            255, then normalised with mean and standard deviation of ImageNet).

    Raises:
        ValueError: the mode or the data format is unknown.

    >>> preprocess_input(np.array([[[0.0, 127.5, 255.0]]]), mode="tf").tolist()
    [[[-1.0, 0.0, 1.0]]]
    """
    if mode not in ("caffe", "tf", "torch"):
        raise ValueError(f"mode must be 'caffe', 'tf' or 'torch', got {mode!r}.")
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            f"data_format must be 'channels_first' or 'channels_last', got {data_format!r}."
        )
    if isinstance(x, np.ndarray):
        if not np.issubdtype(x.dtype, np.floating):
            x = x.astype(keras.config.floatx())
        axis = -1 if data_format == "channels_last" else -3
        return _preprocess_array(np.moveaxis(x, axis, -1), mode, axis)
    if not isinstance(x, keras.KerasTensor):
        x = ops.convert_to_tensor(x)
    if not dtypes.is_float(dtypes.standardize(x.dtype)):
        x = ops.cast(x, keras.config.floatx())
    if mode == "tf":
        return x / 127.5 - 1.0
    axis = len(x.shape) - (1 if data_format == "channels_last" else 3)
    shape = [3 if i == axis else 1 for i in range(len(x.shape))]
    if mode == "caffe":
        x = ops.flip(x, axis)
        return x - ops.reshape(ops.convert_to_tensor(_CAFFE, x.dtype), shape)
    mean, std = (ops.reshape(ops.convert_to_tensor(v, x.dtype), shape) for v in _IMAGENET)
    return (x - mean) / std


def _preprocess_array(x: np.ndarray, mode: str, axis: int) -> np.ndarray:
    """Do the same to an array whose channels were moved from an axis to the last, in place."""
    if mode == "caffe":
        x = x[..., ::-1]
        x -= np.asarray(_CAFFE, x.dtype)
    elif mode == "tf":
        x /= 127.5
        x -= 1
    else:
        x /= 255
        x -= np.asarray(_IMAGENET[0], x.dtype) / 255
        x /= np.asarray(_IMAGENET[1], x.dtype) / 255
    return np.moveaxis(x, -1, axis)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Return the best classes of ImageNet, as (WordNet id, name, score), of each prediction.

    Args:
        preds: scores (images, 1000).
        top: the number of classes of each image.

    Raises:
        ValueError: the scores have another shape.
    """
    if len(preds.shape) != 2 or preds.shape[1] != CLASSES:
        raise ValueError(f"preds must have the shape (images, {CLASSES}), got {preds.shape}.")
    names = imagenet_classes()
    scores = ops.convert_to_numpy(preds)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(*names[i], row[i]) for i in best] for row, best in zip(scores, order, strict=True)]


def imagenet_classes() -> list[tuple[str, str]]:
    """Return (WordNet id, name) of the 1000 classes; the list of Keras is downloaded once."""
    address, digest = _CLASS_INDEX
    path = keras.utils.get_file(origin=address, cache_subdir="models", file_hash=digest)
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    return [tuple(rows[str(i)]) for i in range(CLASSES)]
