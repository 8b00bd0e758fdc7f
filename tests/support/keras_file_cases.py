"""Small models of every kind, made with Keras or with keraslite, saved by one and opened by the other.

Run as a program this is the side of Keras: `python keras_file_cases.py THEIRS OURS NAME ...` writes
the models and what they compute into a folder, and opens what keraslite wrote into another.
"""

import pickle
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(6, 4)).astype("float32")
STEPS = RNG.normal(size=(6, 5, 4)).astype("float32")
IMAGES = RNG.normal(size=(6, 6, 6, 2)).astype("float32")
VOLUMES = RNG.normal(size=(6, 3, 3, 3, 2)).astype("float32")
IDS = RNG.integers(0, 7, (6, 5)).astype("int32")
LABELS = RNG.integers(0, 3, 6).astype("int32")
TARGETS = RNG.normal(size=(6, 3)).astype("float32")
TEXTS = np.array(["one two", "two three", "four", "one one", "five six", "six"], dtype=object)
WORDS = np.array(["a", "b", "c", "a", "z", "b"], dtype=object)


def objects(k):
    """Return the classes and functions of a user: registered ones, and two that are not."""

    @k.saving.register_keras_serializable("cases")
    def double_relu(x):
        return k.ops.relu(x) * 2.0

    @k.saving.register_keras_serializable("cases")
    def cubic_loss(y_true, y_pred):
        return k.ops.mean(k.ops.abs(k.ops.subtract(y_true, y_pred)) ** 3, axis=-1)

    @k.saving.register_keras_serializable("cases")
    class Blocks(k.Model):
        def __init__(self, units=4, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.stack = [k.layers.Dense(units, "relu"), k.layers.LayerNormalization()]
            self.heads = {"b": k.layers.Dense(2), "a": [k.layers.Dense(3), k.layers.Dense(3)]}
            self._hidden = k.layers.Dense(units)

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")
            for layer in self.stack:
                layer.build((*input_shape[:-1], input_shape[-1]))
                input_shape = (*input_shape[:-1], self.units)
            self._hidden.build(input_shape)
            for layer in (self.heads["b"], *self.heads["a"]):
                layer.build(input_shape)
            self.built = True

        def call(self, x):
            for layer in self.stack:
                x = layer(x)
            x = self._hidden(x) * self.scale
            first, second = self.heads["a"]
            return first(x) + second(x) + k.ops.sum(self.heads["b"](x), axis=-1, keepdims=True)

        def get_config(self):
            return super().get_config() | {"units": self.units}

    class Mixer(k.layers.Layer):
        def __init__(self, rate=0.5, inner=None, **kwargs):
            super().__init__(**kwargs)
            self.rate, self.inner = rate, inner

        def build(self, input_shape):
            self.mix = self.add_weight(shape=(input_shape[-1],), name="mix")
            self.count = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="count"
            )
            self.offset = self.add_weight(shape=(input_shape[-1],), name="offset")
            if not self.inner.built:
                self.inner.build(input_shape)

        def call(self, x, factor=1.0):
            return self.inner(x * self.mix + self.offset) * self.rate * factor

        def get_config(self):
            inner = k.saving.serialize_keras_object(self.inner)
            return super().get_config() | {"rate": self.rate, "inner": inner}

        @classmethod
        def from_config(cls, config):
            config = dict(config, inner=k.saving.deserialize_keras_object(config["inner"]))
            return cls(**config)

    class Wrapped(k.Model):
        def __init__(self, units, **kwargs):
            x = k.Input((4,))
            dense = k.layers.Dense(units, name="inside")
            super().__init__(x, dense(x), **kwargs)
            self.units = units

        def get_config(self):
            return {"name": self.name, "units": self.units}

    return {f.__name__: f for f in (double_relu, cubic_loss, Blocks, Mixer, Wrapped)}


def sequential(k, *layers, shape=(4,)):
    return k.Sequential([k.Input(shape), *layers])


def trained(model, x, y, optimizer, loss="mse", **options):
    model.compile(optimizer, loss, run_eagerly=True, **options)
    for _ in range(2):
        model.train_on_batch(x, y)
    return model, x, y


def dense(k, o):
    L = k.layers
    model = sequential(k, L.Dense(5, "gelu", name="first"), L.Dropout(0.0),
                       L.Rescaling(0.5), L.Dense(3))  # fmt: skip
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = ["accuracy", k.metrics.SparseTopKCategoricalAccuracy(2)]
    return trained(model, ROWS, LABELS, k.optimizers.Adam(0.01), loss, metrics=metrics)


def convolutions(k, o):
    L = k.layers
    model = sequential(
        k, L.Conv2D(3, 3, padding="same", use_bias=False), L.BatchNormalization(),
        L.Activation("relu"), L.MaxPooling2D(), L.DepthwiseConv2D(2), L.SeparableConv2D(4, 2),
        L.Conv2DTranspose(2, 2, strides=2), L.GlobalAveragePooling2D(), L.Dense(3),
        shape=(6, 6, 2),
    )  # fmt: skip
    optimizer = k.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    return trained(model, IMAGES, TARGETS, optimizer)


def convolutions_1d_3d(k, o):
    L = k.layers
    rows, volume = k.Input((5, 4)), k.Input((3, 3, 3, 2))
    a = L.Conv1D(3, 2, padding="causal", dilation_rate=2)(rows)
    a = L.Conv1DTranspose(2, 2)(L.SeparableConv1D(3, 2)(L.DepthwiseConv1D(2)(a)))
    b = L.Conv3DTranspose(2, 2)(L.Conv3D(2, 2, padding="same")(volume))
    outputs = L.concatenate([L.Flatten()(a), L.Flatten()(b)])
    return k.Model([rows, volume], outputs), [STEPS, VOLUMES], None


def recurrent(k, o):
    L = k.layers
    model = sequential(
        k, L.Bidirectional(L.LSTM(2, return_sequences=True)), L.GRU(3, return_sequences=True),
        L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="sum"), L.SimpleRNN(3),
        shape=(5, 4),
    )  # fmt: skip
    return trained(model, STEPS, TARGETS, k.optimizers.RMSprop(0.01, centered=True, momentum=0.5))


def cells(k, o):
    L = k.layers
    stack = L.RNN([L.LSTMCell(2), L.GRUCell(3)], return_sequences=True)
    model = sequential(k, stack, L.TimeDistributed(L.Dense(2)), L.Reshape((5, 2, 1)),
                       L.ConvLSTM1D(2, 1), shape=(5, 4))  # fmt: skip
    return model, STEPS, None


def attention(k, o):
    L = k.layers
    x, y = k.Input((5, 4)), k.Input((5, 4))
    a = L.MultiHeadAttention(2, 3, name="mha")(query=x, value=y, use_causal_mask=True)
    b = L.GroupQueryAttention(2, 2, 1)(x, a)
    c = L.Attention(use_scale=True)([b, y])
    d = L.AdditiveAttention()([c, a])
    return k.Model({"x": x, "y": y}, L.Add()([b, c, d])), {"x": STEPS, "y": STEPS * 0.5}, None


def masked(k, o):
    L = k.layers
    model = sequential(k, L.Embedding(7, 4, mask_zero=True), L.LSTM(3), shape=(5,))
    optimizer = k.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0)
    return trained(model, IDS, TARGETS, optimizer)


def words(k, o):
    L = k.layers
    model = sequential(k, L.Embedding(7, 4, mask_zero=True), L.LSTM(3), shape=(5,))
    return trained(model, IDS, TARGETS, k.optimizers.SGD(0.1, clipnorm=1.0))


def op_nodes(k, o):
    ops = k.ops
    x = k.Input((5, 4), name="steps")
    a = (x * 2.0 + 1.0) / 3.0 - x**2
    b = ops.concatenate([a[:, 1:], a[:, :1, ...]], axis=1)
    c = ops.einsum("bij,bkj->bik", b, x)
    d = ops.transpose(c, (0, 2, 1)) @ ops.softmax(x, axis=1)
    e = ops.where(d > 0, d, ops.clip(-d, 0.0, 0.5))
    f = ops.reshape(e, (-1, 20)) + ops.mean(ops.abs(x), axis=(1, 2), keepdims=False)[:, None]
    first, second = ops.split(f, 2, axis=-1)
    g = ops.stack([first, second], axis=1)
    g = ops.max(g, axis=1) + ops.take(first, np.array([0, 1]), axis=1)[:, :1]
    h = ops.cast(ops.argmax(g, axis=-1), "float32")
    m, v = ops.moments(g, axes=[1])
    y = ops.expand_dims(h, -1) + ops.logsumexp(g, axis=1, keepdims=True) + (m + v)[:, None]
    y = k.activations.tanh(y) + ops.leaky_relu(y, negative_slope=0.1) + 1.0 / (2.0 + ops.square(y))
    return k.Model(x, [y, ops.pad(g, ((0, 0), (1, 0)))]), STEPS, None


def nested(k, o):
    L = k.layers
    inner = sequential(k, L.Dense(4, "tanh"), L.Dense(4))
    x = k.Input((4,))
    middle = k.Model(x, inner(x) + inner(x * 2.0), name="middle")
    z = k.Input((4,))
    model = k.Model(z, L.Dense(3)(middle(middle(z))))
    return trained(model, ROWS, TARGETS, k.optimizers.Nadam(0.01))


def shared(k, o):
    L = k.layers
    x, y = k.Input((4,), name="left"), k.Input((4,), name="right")
    tower = L.Dense(3, name="tower")
    a, b = tower(x), tower(y)
    unused = L.Dense(2, name="unused")
    unused(y)
    outputs = L.Dense(3)(L.Concatenate()([a, b, L.Dot(1, normalize=True)([a, b])]))
    model = k.Model([x, y], outputs)
    return trained(model, [ROWS, ROWS * 2], TARGETS, "adagrad")


def many_outputs(k, o):
    L = k.layers
    x = {"a": k.Input((4,), name="a"), "b": k.Input((4,), name="b")}
    h = L.Add()([L.Dense(4)(x["a"]), x["b"]])
    model = k.Model(x, {"u": L.Dense(3, name="u")(h), "v": L.Dense(3, name="v")(h)})
    y = {"u": TARGETS, "v": LABELS}
    loss = {"u": "mae", "v": k.losses.SparseCategoricalCrossentropy(True)}
    return trained(model, {"a": ROWS, "b": ROWS + 1}, y, "adam", loss, loss_weights={"u": 2.0, "v": 0.5},
                   metrics={"u": ["mse"], "v": ["accuracy"]})  # fmt: skip


def subclassed(k, o):
    model = o["Blocks"](name="blocks")
    model.build((None, 4))
    return trained(model, ROWS, TARGETS, k.optimizers.Adamax(0.01))


def custom_layer(k, o):
    x = k.Input((4,))
    h = o["Mixer"](0.25, k.layers.Dense(3), name="mixer")(x, factor=2.0)
    return trained(k.Model(x, h), ROWS, TARGETS, k.optimizers.Lion(0.001))


def custom_model(k, o):
    model = o["Wrapped"](3, name="wrapped")
    return trained(model, ROWS, TARGETS, k.optimizers.Adadelta(0.1))


def custom_functions(k, o):
    model = sequential(k, k.layers.Dense(3, o["double_relu"]), k.layers.Activation(o["double_relu"]),
                       k.layers.Lambda(o["double_relu"]))  # fmt: skip
    return trained(model, ROWS, TARGETS, "sgd", o["cubic_loss"], metrics=[o["cubic_loss"]])


def statistics(k, o):
    L = k.layers
    normalization, buckets = L.Normalization(), L.Discretization(num_bins=3, output_mode="one_hot")
    normalization.adapt(ROWS)
    buckets.adapt(ROWS[:, 0])
    x = k.Input((4,))
    h = L.Concatenate()([normalization(x), buckets(x[:, 0]), L.Rescaling(0.5, 1.0)(x)])
    return k.Model(x, L.Dense(2)(h)), ROWS, None


def vectorized(k, o):
    L = k.layers
    text = L.TextVectorization(output_sequence_length=3)
    text.adapt(TEXTS)
    x = k.Input((1,), dtype="string")
    return k.Model(x, L.Embedding(text.vocabulary_size(), 2)(text(x))), TEXTS[:, None], None


def lookups(k, o):
    L = k.layers
    word = L.StringLookup(output_mode="one_hot")
    word.adapt(WORDS)
    number = L.IntegerLookup(vocabulary=[3, 5], num_oov_indices=2, output_mode="multi_hot")
    weighted = L.StringLookup(output_mode="tf_idf")
    weighted.adapt(WORDS[:, None])
    x, n = k.Input((1,), dtype="string", name="w"), k.Input((5,), dtype="int32", name="n")
    h = [word(x), number(n), weighted(x), L.Hashing(3, output_mode="one_hot")(x)]
    return k.Model([x, n], L.Dense(2)(L.Concatenate()(h))), [WORDS[:, None], IDS], None


def images(k, o):
    L = k.layers
    model = sequential(
        k, L.Resizing(5, 5), L.CenterCrop(4, 4), L.RandomFlip(seed=1), L.RandomRotation(0.1, seed=2),
        L.ZeroPadding2D(1), L.Cropping2D(1), L.UpSampling2D(2, interpolation="bilinear"),
        L.RandomContrast(0.2), L.GaussianNoise(0.1), L.SpatialDropout2D(0.3), shape=(6, 6, 2),
    )  # fmt: skip
    return model, IMAGES, None


def quantized(k, o):
    model = sequential(k, k.layers.Dense(8, "relu"), k.layers.Dense(3, use_bias=False))
    model.quantize("int8")
    return model, ROWS, None


def quantized_int4(k, o):
    L = k.layers
    model = sequential(k, L.Embedding(7, 8), L.Dense(8), L.EinsumDense("abc,cd->abd", (None, 3),
                       bias_axes="d"), shape=(5,))  # fmt: skip
    model.quantize("int4")
    return model, IDS, None


def lora(k, o):
    L = k.layers
    model = sequential(k, L.Dense(5, name="adapted"), L.Dense(3))
    model.layers[0].enable_lora(2)
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(ROWS, TARGETS)
    return model, ROWS, None


def half(k, o):
    L = k.layers
    model = sequential(k, L.Dense(4, "relu", dtype="mixed_bfloat16"), L.Dense(3, dtype="bfloat16"),
                       L.Dense(2, dtype="float32"))  # fmt: skip
    return model, ROWS, None


def loss_scaled(k, o):
    optimizer = k.optimizers.LossScaleOptimizer(k.optimizers.Adam(0.01), initial_scale=8.0)
    return trained(sequential(k, k.layers.Dense(3)), ROWS, TARGETS, optimizer)


def policies(k, o):
    policy = k.dtype_policies.DTypePolicyMap(default_policy="float32")
    policy[".*narrow"] = k.dtype_policies.DTypePolicy("bfloat16")
    model = sequential(k, k.layers.Dense(4, dtype=policy, name="narrow"),
                       k.layers.Dense(3, dtype=policy, name="wide"))  # fmt: skip
    return model, ROWS, None


def scheduled(k, o):
    rate = k.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    optimizer = k.optimizers.Adam(rate, amsgrad=True, use_ema=True, global_clipnorm=2.0)
    return trained(sequential(k, k.layers.Dense(3)), ROWS, TARGETS, optimizer)


def accumulated(k, o):
    optimizer = k.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    return trained(sequential(k, k.layers.Dense(3)), ROWS, TARGETS, optimizer)


def regularized(k, o):
    L, r = k.layers, k.regularizers
    model = sequential(
        k,
        L.Dense(4, kernel_regularizer=r.L1L2(0.01, 0.02), bias_regularizer="l2",
                kernel_constraint=k.constraints.MaxNorm(1.0), kernel_initializer=k.initializers.
                VarianceScaling(2.0, seed=3), activity_regularizer=r.L2(0.1)),
        L.ActivityRegularization(0.01), L.Dense(3, kernel_constraint="non_neg"),
    )  # fmt: skip
    return trained(model, ROWS, TARGETS, k.optimizers.Ftrl(0.05))


def normalized(k, o):
    L = k.layers
    model = sequential(
        k, L.LayerNormalization(), L.GroupNormalization(1), L.Dense(4), L.UnitNormalization(),
        L.RMSNormalization(), L.BatchNormalization(renorm=False), L.Dense(3),
    )  # fmt: skip
    model.layers[-1].trainable = False
    return trained(model, ROWS, TARGETS, k.optimizers.Lamb(0.01))


def activations(k, o):
    L = k.layers
    x = k.Input((4,))
    made = [L.PReLU(), L.LeakyReLU(0.1), L.ELU(0.5), L.Softmax(), L.ReLU(6.0, 0.1, 0.2),
            L.Activation("silu"), L.Identity()]  # fmt: skip
    h = [layer(L.Dense(3, activation="hard_sigmoid")(x)) for layer in made]
    h[6] = L.SpectralNormalization(L.Dense(3))(h[6])
    merged = [L.Average()(h[:3]), L.Maximum()(h[2:4]), L.Minimum()(h[3:5]), L.Subtract()(h[:2]),
              L.Multiply()(h[5:])]  # fmt: skip
    return k.Model(x, L.Concatenate()(merged)), ROWS, None


def reshaped(k, o):
    L = k.layers
    model = sequential(
        k, L.RepeatVector(3), L.Permute((2, 1)), L.Cropping1D(1), L.ZeroPadding1D(2),
        L.AveragePooling1D(2), L.Flatten(), L.Dense(3),
    )  # fmt: skip
    return trained(model, ROWS, TARGETS, k.optimizers.Adafactor(0.01))


def without_shape(k, o):
    model = k.Sequential([k.layers.Dense(4, "relu"), k.layers.Dense(3)], name="late")
    model(ROWS)
    return trained(model, ROWS, TARGETS, k.optimizers.Muon(0.01))


def einsum(k, o):
    L = k.layers
    x = k.Input((5, 4))
    h = L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", activation="relu")(x)
    h = L.EinsumDense("abde,def->abf", (None, 4))(h)
    return k.Model(x, L.TimeDistributed(L.Dense(2))(h)), STEPS, None


def float8(k, o):
    model = sequential(k, k.layers.Dense(16, "relu"), k.layers.Dense(3))
    model.quantize("float8")
    return model, ROWS, None


def measured(k, o):
    model = sequential(k, k.layers.Dense(1, "sigmoid"))
    metrics = [
        k.metrics.AUC(num_thresholds=20),
        k.metrics.Precision(),
        k.metrics.MeanSquaredError(),
    ]
    y = (LABELS[:, None] > 0).astype("float32")
    optimizer = k.optimizers.Adam(k.optimizers.schedules.CosineDecay(0.1, 10))
    loss = k.losses.BinaryFocalCrossentropy(gamma=1.5)
    return trained(model, ROWS, y, optimizer, loss, metrics=metrics, weighted_metrics=["mae"])


def constants(k, o):
    L = k.layers
    x = k.Input((4,))
    h = L.Add()([L.Dense(4)(x), k.ops.convert_to_tensor(ROWS[:1])])
    return k.Model(x, h * np.float32(0.5) + np.arange(4, dtype="float32")), ROWS, None


def feature_space(k, o):
    F = k.utils.FeatureSpace
    space = F({"n": F.float_normalized(), "w": F.string_categorical(max_tokens=5)},
              output_mode="concat")  # fmt: skip
    if k.__name__ == "keras":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices({"n": ROWS[:, :1], "w": list(WORDS)})
        space.adapt(data.map(lambda row: {"n": row["n"][0], "w": row["w"]}))
    else:
        space.adapt({"n": ROWS[:, 0], "w": WORDS})
    return space, {"n": ROWS[:, 0], "w": WORDS}, None


def with_optimizer(name, k, o):
    model = sequential(k, k.layers.Dense(4, "tanh"), k.layers.Dense(3))
    return trained(model, ROWS, TARGETS, getattr(k.optimizers, name)(0.01))


OPTIMIZERS = ("Adadelta", "Adafactor", "Adagrad", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion",
              "Nadam", "RMSprop")  # fmt: skip
CASES = {
    f.__name__: f
    for f in (
        dense, convolutions, convolutions_1d_3d, recurrent, cells, attention, masked, words, op_nodes,
        nested, shared, many_outputs, subclassed, custom_layer, custom_model, custom_functions,
        statistics, vectorized, lookups, images, quantized, quantized_int4, lora, half, loss_scaled,
        policies, scheduled, accumulated, regularized, normalized, activations, reshaped,
        without_shape, einsum, float8, measured, constants, feature_space,
    )
} | {f"with_{name.lower()}": partial(with_optimizer, name) for name in OPTIMIZERS}  # fmt: skip
TEXT_CASES = ("vectorized", "lookups")  # models that Keras runs on TensorFlow alone


def outputs_of(k, model, x, name):
    """Return what a model computes, as a list of arrays."""
    if name == "feature_space":
        columns = {n: v if v.dtype == object else k.ops.convert_to_tensor(v) for n, v in x.items()}
        flat = [model(columns)]
    elif name in TEXT_CASES and k.__name__ == "keras":
        import tensorflow as tf

        flat = [model(k.tree.map_structure(tf.constant, x))]
    else:
        flat = k.tree.flatten(model.predict(x, verbose=0, batch_size=6))
    return [np.asarray(k.ops.convert_to_numpy(v), "float32") for v in flat]


def results(k, model, x, y, name):
    """Return what a model computes and, of one that is trained, the losses of two further steps."""
    made = {str(i): v for i, v in enumerate(outputs_of(k, model, x, name))}
    if y is not None:
        steps = [np.ravel(model.train_on_batch(x, y))[0] for _ in range(2)]
        made["losses"] = np.array(steps, "float32")
    return made


FORMS = ("folder", "weights.h5", "weights.json")  # in which some cases are saved too
NPZ_CASES = ("dense", "subclassed", "half", "loss_scaled")  # whose weights are pickled too
FORM_CASES = ("dense", "subclassed")
# Those that are saved as `.h5` too; of `OWN_LEGACY` Keras does not open what it writes itself.
LEGACY_CASES = ("dense", "convolutions", "recurrent", "nested", "many_outputs", "custom_layer",
                "custom_functions", "half", "quantized", "activations", "reshaped")  # fmt: skip
OWN_LEGACY = ("op_nodes", "subclassed", "with_lamb")


def save_form(model, folder, name, form):
    """Save a model as a folder, or its weights as one file or in shards."""
    path = Path(folder, f"{name}.{form}")
    if form == "folder":
        model.save(path, zipped=False)
    elif form == "weights.h5":
        model.save_weights(path)
    else:
        model.save_weights(path, max_shard_size=200 / 2**30)


def open_form(k, folder, name, form):
    """Return a model of another beginning with the weights that were saved in a form."""
    path, own = Path(folder, f"{name}.{form}"), objects(k)
    if form == "folder":
        return k.saving.load_model(path, custom_objects(own))
    model = CASES[name](k, own)[0]
    model.load_weights(path)
    return model


def save(k, folder, names):
    """Save the models of some cases, what they compute, and the data for that."""
    k.utils.set_random_seed(1)
    own, data = objects(k), {}
    for name in names:
        model, *data[name] = CASES[name](k, own)
        model.save(Path(folder, f"{name}.keras"))
        for form in FORMS if name in FORM_CASES else ():
            save_form(model, folder, name, form)
        if name in (*LEGACY_CASES, *OWN_LEGACY) and k.__name__ == "keraslite":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.save(Path(folder, f"{name}.h5"))
        if name in NPZ_CASES and k.__name__ == "keras":
            from keras.src.saving import saving_lib

            with open(Path(folder, f"{name}.npz.keras"), "wb") as file:
                saving_lib._save_model_to_fileobj(model, file, weights_format="npz")
        np.savez(Path(folder, f"{name}.npz"), **results(k, model, *data[name], name))
    Path(folder, "data.pkl").write_bytes(pickle.dumps(data))


def custom_objects(own):
    return {name: own[name] for name in ("Mixer", "Wrapped")}


def open_all(k, folder, names):
    """Open the models of some cases and write what they compute, or the error."""
    own = objects(k)
    data = pickle.loads(Path(folder, "data.pkl").read_bytes())
    backend = k.backend.backend()
    for name in names:
        try:
            model = k.saving.load_model(Path(folder, f"{name}.keras"), custom_objects(own))
            made = results(k, model, *data[name], name)
            for form in FORMS if name in FORM_CASES else ():
                other = open_form(k, folder, name, form)
                made[form] = outputs_of(k, other, data[name][0], name)[0]
            if name in LEGACY_CASES:  # whose optimizer Keras builds for no variables
                model = k.saving.load_model(Path(folder, f"{name}.h5"), custom_objects(own))
                outputs = results(k, model, data[name][0], None, name)
                made |= {f"legacy/{i}": value for i, value in outputs.items()}
            np.savez(Path(folder, f"{name}.{backend}.npz"), **made)
        except Exception as error:  # all are told at once
            text = f"{type(error).__name__}: {error}"
            Path(folder, f"{name}.{backend}.error").write_text(text)


if __name__ == "__main__":
    import keras

    theirs, ours, *names = sys.argv[1:]
    save(keras, theirs, names)
    open_all(keras, ours, names)
