"""Models of tf.keras as files: `python legacy_models.py FOLDER` writes them with what they answer.

To be run with TF_USE_LEGACY_KERAS=1, in a process of its own. Beside `NAME.h5` stands `NAME.npz`:
inputs, targets, outputs, and the losses of the next two training steps, of which the second tells
whether the optimizer's state was right.
"""

import json
import sys
from pathlib import Path

import numpy as np

SEED = 7


def convnet(k, tf):
    """Layers of images in a row; SGD of before, with momentum and decay."""
    layers = k.layers
    model = k.Sequential([
        layers.Conv2D(4, 3, activation="relu", padding="same", input_shape=(8, 8, 2)),
        layers.BatchNormalization(momentum=0.9), layers.MaxPooling2D(),
        layers.DepthwiseConv2D(2, depth_multiplier=2), layers.LeakyReLU(0.1),
        layers.SeparableConv2D(3, 2, activation="swish"),
        layers.Conv2DTranspose(2, 2, strides=2), layers.PReLU(shared_axes=[1, 2]),
        layers.UpSampling2D(), layers.ZeroPadding2D(1), layers.Cropping2D(((1, 0), (0, 1))),
        layers.SpatialDropout2D(0.0), layers.GlobalAveragePooling2D(),
        layers.Dense(3, activation="softmax"),
    ])  # fmt: skip
    optimizer = k.optimizers.legacy.SGD(0.1, momentum=0.9, nesterov=True, decay=0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, [(4, 8, 8, 2)], [("classes", 3, (4,))]


def texts(k, tf):
    """Masked texts; Adam with a schedule, losses and metrics as objects."""
    layers = k.layers
    model = k.Sequential([
        layers.Embedding(9, 4, input_length=3, mask_zero=True),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(2, activation="tanh")),
        layers.GRU(3), layers.Dropout(0.0), layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip
    rate = k.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)
    model.compile(
        k.optimizers.Adam(rate, clipnorm=1.0), k.losses.BinaryCrossentropy(label_smoothing=0.1),
        metrics=[k.metrics.AUC(name="auc"), "binary_accuracy"], weighted_metrics=["acc"],
    )  # fmt: skip
    return model, [("classes", 9, (4, 3))], [("classes", 2, (4, 1))]


def operations(k, tf):
    """Operations of TensorFlow as layers; dicts of inputs and outputs; AMSGrad."""
    a, b = k.Input((5, 4), name="a"), k.Input((4,), name="b")
    x = tf.nn.relu(k.layers.Dense(4)(a)) + 1.0
    x = x[:, 1:, ::2] * 2 - 0.5
    x = tf.concat([x, 1 - x], axis=-1) / tf.reduce_max(tf.abs(a), axis=[1, 2], keepdims=True)
    y = tf.matmul(x, x, transpose_b=True)
    y = tf.reshape(tf.transpose(y, [0, 2, 1]), [-1, 16]) ** 2
    first, second = tf.split(y, 2, axis=1)
    y = (
        tf.nn.gelu(tf.stack([first, second], axis=1))
        + tf.expand_dims(tf.reduce_mean(b, -1), 1)[:, None]
    )
    y = tf.where(y > 0.5, tf.sqrt(tf.maximum(y, 1e-3)), tf.math.tanh(-y))
    y = tf.clip_by_value(tf.nn.l2_normalize(y, axis=-1), -0.9, 0.9)
    y = k.layers.Dense(2, name="y")(tf.pad(tf.squeeze(y[:, :1], axis=1), [[0, 0], [1, 0]]))
    z = k.layers.Dense(2, name="z")(tf.tile(tf.cast(b > 0, "float32"), [1, 2]) @ tf.ones((8, 3)))
    model = k.Model({"a": a, "b": b}, {"out": y, "also": tf.nn.softmax(z + tf.nn.sigmoid(y))})
    model.compile(
        k.optimizers.Adam(0.01, amsgrad=True), {"out": k.losses.Huber(), "also": "mse"},
        metrics={"out": ["mae", k.metrics.RootMeanSquaredError()]},
        loss_weights={"out": 1.0, "also": 0.5},
    )  # fmt: skip
    return model, {"a": (4, 5, 4), "b": (4, 4)}, {"out": (4, 2), "also": (4, 2)}


def nested(k, tf):
    """A model called twice inside another, layers shared, a model as the last layer; RMSprop."""
    layers = k.layers
    image = k.Input((4,))
    inner = k.Model(image, [layers.Dense(3, name="deep")(image), layers.Dense(2)(image)], name="in")
    last = k.Sequential([layers.Dense(3, activation="relu"), layers.Dense(1)], name="last")
    a, b = k.Input((4,)), k.Input((4,))
    (p, q), (r, s) = inner(a), inner(b)
    shared = layers.Dense(4, kernel_regularizer=k.regularizers.L1L2(0.01, 0.02))
    x = layers.Concatenate()([p, r, layers.Multiply()([q, s]), shared(a), shared(b)])
    model = k.Model([a, b], last(layers.BatchNormalization()(x)))
    model.get_layer("in").get_layer("deep").trainable = False
    model.compile(k.optimizers.RMSprop(0.01, momentum=0.5, centered=True), "logcosh", ["mse"])
    return model, [(4, 4), (4, 4)], [(4, 1)]


def translation(k, tf):
    """Recurrent layers whose states go to others; the legacy RMSprop."""
    layers = k.layers
    source, target = k.Input((None, 3)), k.Input((4, 2))
    _, h, c = layers.LSTM(3, return_state=True)(source)
    x, *_ = layers.LSTM(3, return_sequences=True, return_state=True)(target, initial_state=[h, c])
    x = layers.GRU(3, return_sequences=True, reset_after=False)(x, initial_state=h)
    x = layers.TimeDistributed(layers.Dense(2))(layers.SimpleRNN(2, return_sequences=True)(x))
    model = k.Model([source, target], layers.Softmax()(x))
    optimizer = k.optimizers.legacy.RMSprop(0.01, momentum=0.9)
    model.compile(optimizer, k.losses.CategoricalCrossentropy(), ["categorical_accuracy"])
    return model, [(4, 5, 3), (4, 4, 2)], [("distributions", 2, (4, 4))]


def attention(k, tf):
    """A block of a transformer; AdamW."""
    layers = k.layers
    x = inputs = k.Input((5, 4))
    other = k.Input((3, 4))
    x = layers.LayerNormalization(epsilon=1e-5)(
        x + layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    )
    x = layers.MultiHeadAttention(2, 2, value_dim=3, use_bias=False)(x, value=other, key=other) + x
    x = layers.Dense(4)(
        layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", activation="gelu")(x)
    )
    x = layers.Add()([x, layers.Attention(use_scale=True)([x, other])])
    x = layers.AdditiveAttention()([layers.GroupNormalization(2)(x), other, other])
    model = k.Model([inputs, other], layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
    model.compile(
        k.optimizers.AdamW(0.01, weight_decay=0.1), k.losses.MeanSquaredError(reduction="sum")
    )
    return model, [(4, 5, 4), (4, 3, 4)], [(4, 2)]


def cells(k, tf):
    """Cells, and the hard sigmoid that Keras 3 has otherwise; the legacy Adam."""
    layers = k.layers
    model = k.Sequential([
        k.Input((3, 4, 4, 1)),
        layers.ConvLSTM2D(2, 2, return_sequences=True, recurrent_activation="hard_sigmoid"),
        layers.Reshape((3, -1)), layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], return_sequences=True),
        layers.Conv1D(2, 2, padding="causal", activation="hard_sigmoid"),
        layers.Bidirectional(layers.SimpleRNN(2), merge_mode="sum"), layers.Dense(1),
    ])  # fmt: skip
    model.compile(k.optimizers.legacy.Adam(0.01, amsgrad=True), "mean_absolute_error", ["mape"])
    return model, [(4, 3, 4, 4, 1)], [(4, 1)]


def options(k, tf):
    """Initializers, constraints, activations as layers; Adamax."""
    layers = k.layers
    scaling = k.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    model = k.Sequential([
        layers.Dense(6, kernel_initializer=scaling, kernel_constraint="max_norm", input_shape=(4,)),
        layers.ThresholdedReLU(0.2), layers.Dense(6, activation=layers.ELU(0.5), bias_initializer="ones"),
        layers.Dense(5, activation=tf.nn.leaky_relu, kernel_initializer=k.initializers.Orthogonal(0.5)),
        layers.ActivityRegularization(l2=0.01), layers.UnitNormalization(), layers.ReLU(3.0, 0.1, 0.2),
        layers.Dense(4, activation=tf.nn.softmax), layers.RepeatVector(2), layers.Permute((2, 1)),
        layers.Flatten(), layers.GaussianNoise(0.0), layers.Dense(2, trainable=False),
    ])  # fmt: skip
    model.compile(
        k.optimizers.Adamax(0.05), k.losses.CosineSimilarity(), [k.metrics.CosineSimilarity()]
    )
    return model, [(4, 4)], [(4, 2)]


def preprocessing(k, tf):
    """Layers that were adapted, and those that are random in training: never compiled."""
    layers = k.layers
    numbers, image = k.Input((3,)), k.Input((6, 6, 3))
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3.0, 2.0, (20, 3)))
    bins = layers.CategoryEncoding(3, "multi_hot")(layers.Discretization([0.0, 1.0])(numbers))
    x = layers.Concatenate()([normalization(numbers), bins])
    y = layers.Rescaling(1 / 3, -1)(layers.Resizing(4, 4)(layers.CenterCrop(5, 5)(image)))
    y = layers.RandomContrast(0.1)(layers.RandomRotation(0.1)(layers.RandomFlip()(y)))
    model = k.Model(
        [numbers, image], layers.Dense(2)(layers.Concatenate()([x, layers.Flatten()(y)]))
    )
    return model, [(4, 3), (4, 6, 6, 3)], None


def custom(k, tf):
    """Classes and functions of the user's own; the config as releases before 2.4 wrote it."""

    @k.utils.register_keras_serializable("mine")
    class Scale(k.layers.Layer):
        def __init__(self, start=1.0, **kwargs):
            super().__init__(**kwargs)
            self.start = start

        def build(self, shape):
            self.scale = self.add_weight(
                "scale", shape[-1:], initializer=k.initializers.Constant(self.start)
            )

        def call(self, x):
            return x * self.scale

        def get_config(self):
            return {**super().get_config(), "start": self.start}

    def double_error(y_true, y_pred):
        return tf.reduce_mean(tf.abs(y_true - y_pred) * 2, -1)

    inputs = k.Input((4,))
    x = Scale(2.0)(k.layers.BatchNormalization(name="bn")(k.layers.Dense(4)(inputs)))
    inner = k.Sequential([k.layers.Dense(3, input_shape=(4,)), k.layers.Dense(2)], name="inner")
    model = k.Model(inputs, inner(x))
    model.compile(k.optimizers.legacy.SGD(0.1, momentum=0.8), double_error, [double_error])
    return model, [(4, 4)], [(4, 2)]


MODELS = [convnet, texts, operations, nested, translation, attention, cells, options,
          preprocessing, custom]  # fmt: skip


FUNCTIONS = {
    "math": """acos acosh asin asinh atan atanh ceil cos cosh erf exp expm1 floor log log1p
        negative reciprocal round rsqrt sign sin sinh softplus square tan is_finite""",
    "nn": "elu relu6 selu silu softsign leaky_relu softmax log_softmax",
    "of two": """subtract divide floordiv floormod pow maximum minimum greater less_equal equal
        divide_no_nan atan2""",
    "reduce": "sum min prod std variance logsumexp",
}


def functions(k, tf):
    """A model of single operations of TensorFlow, an output each."""
    a, b = k.Input((3, 4), name="a"), k.Input((3, 4), name="b")
    x, y, half = tf.sigmoid(a), tf.abs(b) + 0.5, tf.constant(0.5)
    outputs = {}
    for name in FUNCTIONS["math"].split():
        outputs[name] = getattr(tf.math, name)(x + 1 if name == "acosh" else x)
    for name in FUNCTIONS["nn"].split():
        outputs[name] = getattr(tf.nn, name)(a)
    for name in FUNCTIONS["of two"].split():
        outputs[name] = getattr(tf.math, name)(x, y)
    for name in FUNCTIONS["reduce"].split():
        outputs[f"reduce_{name}"] = getattr(tf.math, f"reduce_{name}")(a, axis=1)
    outputs["any"] = tf.reduce_any(a > 0.5, axis=[1, 2])
    outputs["all"] = tf.reduce_all(tf.logical_not(a > 0.5), -1, keepdims=True)
    outputs["xor"] = tf.math.logical_xor(a > 0, b > 0) | (a > b) & (b < 1)
    outputs["gather"] = tf.gather(a, [2, 0], axis=1)
    outputs["one_hot"] = tf.one_hot(tf.argmax(a, axis=-1), 4)
    outputs["argmin"] = tf.argmin(a, axis=1)
    outputs["cumsum"] = tf.cumsum(a, axis=1)
    outputs["reverse"] = tf.reverse(a, [1])
    outputs["repeat"] = tf.repeat(a, 2, axis=1)
    outputs["top"] = tf.math.top_k(a, 2)[0]
    outputs["sizes"] = tf.split(a, [1, 3], axis=-1)[1]
    outputs["unstack"] = tf.unstack(a, axis=1)[1]
    outputs["tensordot"] = tf.tensordot(a, tf.ones((4, 2)), 1)
    outputs["matmul"] = tf.matmul(a, b, transpose_a=True)
    outputs["mirror"] = tf.pad(a, [[0, 0], [1, 1], [2, 0]], "REFLECT")
    outputs["padded"] = tf.pad(a, [[0, 0], [1, 1], [2, 0]], constant_values=3.0)
    outputs["ones"] = tf.ones_like(a) - tf.zeros_like(b) + tf.stop_gradient(a)
    outputs["bias"] = tf.nn.bias_add(a, tf.constant([1.0, 2.0, 3.0, 4.0]))
    outputs["resize"] = tf.image.resize(a[..., None], (5, 6))
    outputs["newaxis"] = a[:, tf.newaxis, ..., -1]
    outputs["where"] = tf.where(a > 0, a, half) // 0.3 % 2
    outputs["constant"] = 2.0 / y - 3.0**x + half * x @ tf.transpose(b, (0, 2, 1))[:, :, :1]
    return k.Model({"a": a, "b": b}, outputs), {"a": (2, 3, 4), "b": (2, 3, 4)}, None


OPTIONS = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True},
           "Adam": {"amsgrad": True}}  # fmt: skip


def optimizers(k, folder):
    """Write a small model with each other optimizer, after two of its steps, and its next losses."""
    x, y = np.eye(4, 3, dtype="float32") + 0.1, np.arange(8, dtype="float32").reshape(4, 2) / 8
    losses = {}
    for place, names in (
        ("new", "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lion Nadam RMSprop SGD"),
        ("legacy", "Adadelta Adagrad Adam Adamax Ftrl Nadam RMSprop SGD"),
        ("mixed", "Adam"),
    ):
        k.mixed_precision.set_global_policy("mixed_float16" if place == "mixed" else "float32")
        for name in names.split():
            k.utils.set_random_seed(SEED)
            model = k.Sequential([k.layers.Dense(3, input_shape=(3,)), k.layers.Dense(2)])
            cls = getattr(k.optimizers.legacy if place == "legacy" else k.optimizers, name)
            options = OPTIONS.get(name, {}) | ({"use_ema": True} if name == "AdamW" else {})
            model.compile(cls(0.05, **options), "mse", run_eagerly=True)
            for _ in range(2):
                model.train_on_batch(x, y)
            model.save(folder / f"{place}_{name}.h5")
            losses[f"{place}_{name}"] = [model.train_on_batch(x, y) for _ in range(3)]
    k.mixed_precision.set_global_policy("float32")
    np.savez(folder / "optimizers.npz", x=x, y=y, **losses)


def subclass(k):
    """Return a model with a `call` of its own, which either library can make."""

    class Own(k.Model):
        def __init__(self):
            super().__init__()
            self.first = k.layers.Dense(3)
            self.blocks = [k.layers.BatchNormalization(), k.layers.Dense(3)]
            self._last = k.Sequential([k.layers.Dense(3), k.layers.Dense(2)])
            self.scale = self.add_weight(name="scale", shape=(2,), initializer="ones")

        def call(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return self._last(x) * self.scale

    model = Own()
    model(np.ones((2, 4), "float32"))
    return model


def write_subclass(k, folder):
    """Write the weights of `subclass`, whose config Keras 2 cannot write, and what it answers."""
    model, rng = subclass(k), np.random.default_rng(SEED)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    model.save_weights(folder / "subclass.h5")
    model.save_weights(folder / "subclass_checkpoint")
    x = rng.normal(size=(3, 4)).astype("float32")
    np.savez(folder / "subclass.npz", **{"x/0": x, "out/0": model(x)})


def plain(k):
    """Return a model that either library can make, with numbers as its weights."""
    x = k.Input((6, 4), name="x")
    y = k.layers.LSTM(3, return_sequences=True)(k.layers.Conv1D(4, 2, name="b")(x))
    inner = k.Sequential([k.layers.Dense(3, "tanh", name="d"), k.layers.BatchNormalization()])
    model = k.Model(x, k.layers.Dense(2, name="a")(inner(y)))
    rng = np.random.default_rng(SEED)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    return model


def read_plain(k, folder):
    """Write what `plain` answers with the weights of a file of keraslite."""
    model = plain(k)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    model.load_weights(folder / "plain_of_keraslite.h5")
    x = np.random.default_rng(SEED).normal(size=(3, 6, 4)).astype("float32")
    np.savez(folder / "plain.npz", **{"x/0": x, "out/0": model(x)})


def make_older(path):
    """Write the config of a file as Keras 2.2 did: other names of classes and arguments."""
    import h5py

    def older(x):
        if isinstance(x, list):
            return [older(v) for v in x]
        if not isinstance(x, dict):
            return x
        x = {key: older(v) for key, v in x.items() if key not in ("module", "registered_name")}
        inner = x.get("config")
        if x.get("class_name") in ("GlorotUniform", "Zeros", "Ones"):
            x["config"] = inner | {"dtype": "float32"}
            if x["class_name"] == "GlorotUniform":
                scaling = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"}
                x = {"class_name": "VarianceScaling", "config": {**scaling, **inner}}
        if x.get("class_name") == "BatchNormalization":
            x["class_name"] = "BatchNormalizationV1"
            inner.update(axis=-1, renorm=False, fused=True, virtual_batch_size=None)
        if x.get("class_name") == "Functional":
            x["class_name"] = "Model"
        if x.get("class_name") == "Sequential":
            x["config"] = [
                layer for layer in inner["layers"] if layer["class_name"] != "InputLayer"
            ]
        return x

    with h5py.File(path, "r+") as file:
        config = older(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = json.dumps(config).encode()
        training = json.loads(file.attrs["training_config"])
        optimizer = training["optimizer_config"]["config"]
        optimizer["lr"] = optimizer.pop("learning_rate")
        file.attrs["training_config"] = json.dumps(training).encode()


def data(shapes, rng):
    """Return arrays for shapes in a list or a dict: normal, or class numbers."""
    if isinstance(shapes, dict):
        return {key: data([shape], rng)[0] for key, shape in shapes.items()}
    arrays = []
    for shape in shapes:
        if shape[0] == "classes":
            arrays.append(rng.integers(0, shape[1], shape[2]).astype("float32"))
        elif shape[0] == "distributions":
            arrays.append(np.eye(shape[1], dtype="float32")[rng.integers(0, shape[1], shape[2])])
        else:
            arrays.append(rng.normal(size=shape).astype("float32"))
    return arrays


def flat(prefix, arrays):
    """Return arrays as the members of a file: `x/0` of a list, `x/name` of a dict."""
    pairs = arrays.items() if isinstance(arrays, dict) else enumerate(arrays)
    return {f"{prefix}/{key}": np.asarray(value) for key, value in pairs}


def write(make, k, tf, folder):
    """Write a model and what it answers."""
    k.backend.clear_session()
    k.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    model, inputs, targets = make(k, tf)
    x = data(inputs, rng)
    call = x[0] if isinstance(x, list) and len(x) == 1 else x
    for layer in model.layers:  # no zeros and ones, which would hide what is exchanged
        if not isinstance(layer, k.layers.Normalization):
            for weight in layer.weights:
                if "float" in weight.dtype.name:
                    weight.assign_add(0.3 * rng.uniform(0.1, 1.0, weight.shape).astype("float32"))
    path = folder / f"{make.__name__}.h5"
    stored = flat("x", x)
    if targets is not None:
        model.run_eagerly = True
        y = data(targets, rng)
        stored |= flat("y", y)
        target = y[0] if isinstance(y, list) else y
        for _ in range(2):
            model.train_on_batch(call, target)
    model.save(path)
    outputs = model(call, training=False)
    stored |= flat("out", outputs if isinstance(outputs, dict | list) else [outputs])
    model.save_weights(folder / f"{make.__name__}_weights.h5")
    model.save_weights(folder / f"{make.__name__}_checkpoint")
    if make is options:
        model.save(folder / "saved_model", save_format="tf", include_optimizer=False)
    if targets is not None:
        steps = [model.train_on_batch(call, target, return_dict=True)["loss"] for _ in range(2)]
        stored["losses"] = np.array(steps)
    np.savez(folder / f"{make.__name__}.npz", **stored)


# Arguments of classes that need some; of others the defaults serve.
ARGUMENTS = {
    "AlphaDropout": (0.1,), "CategoryEncoding": (3,), "CenterCrop": (2, 2), "Conv1D": (2, 3),
    "Conv1DTranspose": (2, 3), "Conv2D": (2, 3), "Conv2DTranspose": (2, 3), "Conv3D": (2, 3),
    "Conv3DTranspose": (2, 3), "ConvLSTM1D": (2, 3), "ConvLSTM2D": (2, 3), "ConvLSTM3D": (2, 3),
    "Dense": (2,), "DepthwiseConv1D": (3,), "DepthwiseConv2D": (3,), "Discretization": ([0.0],),
    "Dot": (1,), "Dropout": (0.1,), "EinsumDense": ("ab,bc->ac", 3), "Embedding": (3, 2),
    "GRU": (2,), "GRUCell": (2,), "GaussianDropout": (0.1,), "GaussianNoise": (0.1,),
    "HashedCrossing": (3,), "Hashing": (3,), "InputLayer": ((2,),), "LSTM": (2,), "LSTMCell": (2,),
    "LocallyConnected1D": (2, 3), "LocallyConnected2D": (2, 3), "MultiHeadAttention": (2, 2),
    "Permute": ((1,),), "RandomBrightness": (0.1,), "RandomContrast": (0.1,),
    "RandomCrop": (2, 2), "RandomHeight": (0.1,), "RandomRotation": (0.1,),
    "RandomTranslation": (0.1, 0.1), "RandomWidth": (0.1,), "RandomZoom": (0.1,),
    "RepeatVector": (2,), "Rescaling": (2.0,), "Reshape": ((1,),), "Resizing": (2, 2),
    "SeparableConv1D": (2, 3), "SeparableConv2D": (2, 3), "SimpleRNN": (2,),
    "SimpleRNNCell": (2,), "SpatialDropout1D": (0.1,), "SpatialDropout2D": (0.1,),
    "SpatialDropout3D": (0.1,), "Activation": ("relu",), "IoU": (2, [0]), "MeanIoU": (2,),
    "MeanRelativeError": ([1.0],), "OneHotIoU": (2, [0]), "OneHotMeanIoU": (2,),
    "PrecisionAtRecall": (0.5,), "RecallAtPrecision": (0.5,), "SensitivityAtSpecificity": (0.5,),
    "SpecificityAtSensitivity": (0.5,), "CosineDecay": (0.1, 5), "CosineDecayRestarts": (0.1, 5),
    "ExponentialDecay": (0.1, 5, 0.5), "InverseTimeDecay": (0.1, 5, 0.5),
    "PiecewiseConstantDecay": ([2], [0.1, 0.2]), "PolynomialDecay": (0.1, 5),
}  # fmt: skip
ABSTRACT = {"Layer", "AbstractRNNCell", "DenseFeatures", "Lambda", "Optimizer", "Loss", "Metric",
            "MeanMetricWrapper", "Initializer", "Regularizer", "Constraint",
            "LearningRateSchedule"}  # fmt: skip


def configs(k):
    """Return (module, config) for the public classes of tf.keras, as they stand in files."""
    inner = {"RNN": lambda: k.layers.LSTMCell(2), "StackedRNNCells": lambda: [k.layers.LSTMCell(2)],
             "Bidirectional": lambda: k.layers.LSTM(2)}  # fmt: skip
    wrapped = ("TimeDistributed", "SpectralNormalization", "Wrapper")
    inner |= dict.fromkeys(wrapped, lambda: k.layers.Dense(2))
    entries = []
    for module in ("layers", "optimizers", "optimizers.legacy", "losses", "metrics", "initializers",
                   "regularizers", "constraints", "optimizers.schedules"):  # fmt: skip
        owner = k
        for part in module.split("."):
            owner = getattr(owner, part)
        for name, cls in vars(owner).items():
            if not isinstance(cls, type) or cls.__name__ != name or name in ABSTRACT:
                continue
            if not hasattr(cls, "get_config"):
                continue
            args = (inner[name](),) if name in inner else ARGUMENTS.get(name, ())
            config = cls(*args).get_config()
            entries.append((module, {"class_name": name, "config": config}))
    return entries


def main(folder):
    import tensorflow as tf
    import tf_keras as k

    folder = Path(folder)
    for make in MODELS:
        write(make, k, tf, folder)
    write(functions, k, tf, folder)
    optimizers(k, folder)
    write_subclass(k, folder)
    read_plain(k, folder)
    make_older(folder / "custom.h5")
    model = k.Sequential([k.layers.Lambda(lambda x: x * 3, input_shape=(2,))])
    model.save(folder / "lambda.h5")
    (folder / "configs.json").write_text(json.dumps(configs(k), default=lambda x: x.tolist()))


if __name__ == "__main__":
    main(sys.argv[1])
