"""Models, data and arguments that keraslite and the installed Keras are trained with, alike."""

import numpy as np

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4)).astype("float32")
Z = RNG.normal(size=(70, 3)).astype("float32")
LABELS = RNG.integers(0, 3, 70)
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
BITS = (X.sum(1) > 0).astype("float32")[:, None]
REAL = (X @ RNG.normal(size=(4, 2))).astype("float32")
IDS = RNG.integers(0, 10, (64, 5)).astype("int32")
WEIGHTS = RNG.uniform(0.2, 2.0, 70).astype("float32")


def classifier(K, activation="softmax"):
    L = K.layers
    return K.Sequential([K.Input((4,)), L.Dense(8, "relu"), L.Dense(3, activation)])


def regressor(K, **arguments):
    dense = K.layers.Dense
    return K.Sequential([K.Input((4,)), dense(8, "tanh"), dense(2, **arguments)])


def binary(K):
    return K.Sequential([K.Input((4,)), K.layers.Dense(1, "sigmoid")])


def regularized(K):
    class Penalty(K.layers.Layer):
        def call(self, x):
            self.add_loss(0.01 * K.ops.mean(K.ops.square(x)))
            return x

    L = K.layers
    x = K.Input((4,))
    y = L.Dense(6, "relu", kernel_regularizer=K.regularizers.L2(0.02), activity_regularizer="l1")(x)
    y = Penalty()(y)
    y = L.BatchNormalization(momentum=0.8)(y)
    return K.Model(x, L.Dense(2, bias_regularizer="l2")(y))


def penalized(K):
    class Penalty(K.layers.Layer):
        def call(self, x):
            self.add_loss(K.ops.mean(K.ops.square(x)))
            return x

    x = K.Input((4,))
    return K.Model(x, Penalty()(K.layers.Dense(3)(x)))


def masked(K):
    L = K.layers
    x = K.Input((5,), dtype="int32")
    return K.Model(x, L.Dense(3, "softmax")(L.Embedding(10, 4, mask_zero=True)(x)))


def two_outputs(K, as_dict):
    L = K.layers
    x = K.Input((4,))
    h = L.Dense(6, "relu")(x)
    a, b = L.Dense(3, "softmax", name="a")(h), L.Dense(2, name="b")(h)
    return K.Model(x, {"a": a, "b": b} if as_dict else [a, b])


def two_inputs(K):
    L = K.layers
    x, z = K.Input((4,), name="x"), K.Input((3,), name="z")
    h = L.Concatenate()([L.Dense(4, "relu")(x), L.Dense(4, "relu")(z)])
    return K.Model({"x": x, "z": z}, L.Dense(2)(h))


# Every shape of a batch is one more compilation: all cases but the first have one alone.
EVEN = slice(0, 64)
VALIDATION = (X[:16], LABELS[:16])

# name: (builder, compile arguments, x, y, fit arguments). Functions take the namespace.
CASES = {
    "sparse, adam, validation_data": (
        classifier,
        lambda K: {"optimizer": "adam", "loss": "sparse_categorical_crossentropy",
                   "metrics": ["accuracy"]},
        X, LABELS, {"validation_data": (X[:20], LABELS[:20]), "batch_size": 32},
    ),
    "one-hot, sgd, validation_split": (
        classifier,
        lambda K: {"optimizer": K.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
                   "loss": "crossentropy", "metrics": ["acc", "categorical_crossentropy"]},
        X[EVEN], ONE_HOT[EVEN], {"validation_split": 0.25},
    ),
    "regression, clipnorm": (
        regressor,
        lambda K: {"optimizer": K.optimizers.Adam(0.01, clipnorm=0.5), "loss": "mse",
                   "metrics": ["mae", K.metrics.RootMeanSquaredError()]},
        X[EVEN], REAL[EVEN], {},
    ),
    "binary, auc": (
        binary,
        lambda K: {"optimizer": K.optimizers.RMSprop(0.01), "loss": "binary_crossentropy",
                   "metrics": ["accuracy", K.metrics.AUC(name="auc")]},
        X[EVEN], BITS[EVEN], {},
    ),
    "logits, class_weight, validation_split": (
        lambda K: classifier(K, None),
        lambda K: {"optimizer": K.optimizers.SGD(0.1),
                   "loss": K.losses.SparseCategoricalCrossentropy(from_logits=True),
                   "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
        X[EVEN], LABELS[EVEN], {"class_weight": {0: 0.3, 1: 2.0}, "validation_split": 0.25},
    ),
    "sample_weight": (
        classifier,
        lambda K: {"optimizer": K.optimizers.SGD(0.1), "loss": "sparse_categorical_crossentropy",
                   "metrics": ["accuracy"], "weighted_metrics": ["sparse_categorical_accuracy"]},
        X[EVEN], LABELS[EVEN],
        {"sample_weight": WEIGHTS[EVEN], "validation_data": (*VALIDATION, WEIGHTS[:16])},
    ),
    "add_loss, regularizers, batch normalization": (
        regularized,
        lambda K: {"optimizer": K.optimizers.SGD(0.05), "loss": "mse"},
        X[EVEN], REAL[EVEN], {"validation_split": 0.25},
    ),
    "dict of outputs": (
        lambda K: two_outputs(K, True),
        lambda K: {"optimizer": "adam",
                   "loss": {"a": "sparse_categorical_crossentropy", "b": "mae"},
                   "loss_weights": {"a": 0.3, "b": 2.0},
                   "metrics": {"a": ["accuracy"], "b": ["mse", "mae"]}},
        X[EVEN], {"a": LABELS[EVEN], "b": REAL[EVEN]}, {"validation_split": 0.25},
    ),
    "list of outputs": (
        lambda K: two_outputs(K, False),
        lambda K: {"optimizer": K.optimizers.SGD(0.05),
                   "loss": ["categorical_crossentropy", K.losses.Huber()],
                   "loss_weights": [1.0, 0.5], "metrics": [["accuracy"], ["mse"]]},
        X[EVEN], [ONE_HOT[EVEN], REAL[EVEN]], {},
    ),
    "weights by output": (
        lambda K: two_outputs(K, True),
        lambda K: {"optimizer": K.optimizers.SGD(0.05),
                   "loss": {"a": "sparse_categorical_crossentropy", "b": "mse"},
                   "weighted_metrics": {"a": ["accuracy"], "b": ["mae"]}},
        X[EVEN], {"a": LABELS[EVEN], "b": REAL[EVEN]},
        {"sample_weight": {"a": WEIGHTS[EVEN], "b": 2 * WEIGHTS[EVEN]}},
    ),
    "losses without targets": (
        penalized,
        lambda K: {"optimizer": K.optimizers.SGD(0.1)},
        X[EVEN], None, {},
    ),
    "moving averages, a schedule": (
        regressor,
        lambda K: {"optimizer": K.optimizers.Adam(
            K.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), use_ema=True, ema_momentum=0.5,
            epsilon=1e-2),
            "loss": "mse"},
        X[EVEN], REAL[EVEN], {},
    ),
    "accumulated gradients": (  # with a schedule or averages, Keras moves those too early
        regressor,
        lambda K: {"optimizer": K.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
                   "loss": "mse"},
        X[EVEN], REAL[EVEN], {},
    ),
    "steps with masks": (
        masked,
        lambda K: {"optimizer": K.optimizers.SGD(0.1), "loss": "sparse_categorical_crossentropy",
                   "metrics": ["accuracy"], "weighted_metrics": ["sparse_categorical_accuracy"]},
        IDS, IDS % 3, {"initial_epoch": 1, "epochs": 3, "validation_freq": 2,
                       "validation_data": (IDS, IDS % 3), "validation_steps": 2},
    ),
    "functions": (
        lambda K: regressor(K, kernel_constraint="non_neg"),
        lambda K: {"optimizer": K.optimizers.SGD(0.1),
                   "loss": lambda y, p: K.ops.mean(K.ops.abs(y - p), axis=-1),
                   "metrics": [lambda y, p: K.ops.mean(y - p)]},
        X[EVEN], REAL[EVEN], {},
    ),
    "dict of inputs": (
        two_inputs,
        lambda K: {"optimizer": K.optimizers.SGD(0.05), "loss": "mse"},
        {"x": X[EVEN], "z": Z[EVEN]}, REAL[EVEN], {},
    ),
}  # fmt: skip
