"""The loops of `fit.py` as one writes them by hand in torch, JAX and TensorFlow.

A network is a row of layers: ("dense", units, relu), ("conv", filters, stride), ("mean",) over the
pixels and ("lstm", units), which gives its last output. `training` and `prediction` make a function
that runs over all batches.
"""

from collections.abc import Callable, Iterator

import numpy as np

Layers = list[tuple]


def slices(x: np.ndarray, batch: int) -> Iterator[slice]:
    """The rows of each batch."""
    return (slice(i, i + batch) for i in range(0, len(x), batch))


# -- torch ----------------------------------------------------------------------------------------


def torch_model(layers: Layers, shape: tuple):
    """The modules of a network."""
    from torch import nn

    class LastOfLSTM(nn.Module):
        def __init__(self, inputs: int, units: int):
            super().__init__()
            self.lstm = nn.LSTM(inputs, units, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0][:, -1]

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    modules, width = [], shape[-1]
    for what, *sizes in layers:
        if what == "dense":
            modules += [nn.Linear(width, sizes[0]), *[nn.ReLU()] * sizes[1]]
        elif what == "conv":
            # "same" as in Keras: with a step of 2 the padding is at the end alone.
            modules += [nn.ZeroPad2d((0, 1, 0, 1))] * (sizes[1] == 2)
            padding = 1 if sizes[1] == 1 else 0
            modules += [nn.Conv2d(width, sizes[0], 3, sizes[1], padding), nn.ReLU()]
        else:
            modules.append(Mean() if what == "mean" else LastOfLSTM(width, sizes[0]))
        width = sizes[0] if sizes else width
    return nn.Sequential(*modules)


def _torch_tensors(x: np.ndarray, layers: Layers):
    import torch

    x = torch.from_numpy(x)
    return x.permute(0, 3, 1, 2) if layers[0][0] == "conv" else x


def torch_training(layers: Layers, x: np.ndarray, y: np.ndarray, batch: int) -> Callable:
    """Steps of Adam."""
    import torch

    model = torch_model(layers, x.shape[1:]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss_of = torch.nn.CrossEntropyLoss()
    xs, ys = _torch_tensors(x, layers), torch.from_numpy(y).long()

    def run():
        for rows in slices(x, batch):
            optimizer.zero_grad()
            loss = loss_of(model(xs[rows]), ys[rows])
            loss.backward()
            optimizer.step()
        return loss.item()

    return run


def torch_prediction(layers: Layers, x: np.ndarray, batch: int) -> Callable:
    """Outputs of all rows."""
    import torch

    model = torch_model(layers, x.shape[1:]).to(memory_format=torch.channels_last).eval()
    xs = _torch_tensors(x, layers)

    def run():
        with torch.inference_mode():
            return torch.cat([model(xs[rows]) for rows in slices(x, batch)]).numpy()

    return run


# -- JAX ------------------------------------------------------------------------------------------


def _jax_network(layers: Layers, shape: tuple):
    """(parameters, a function of them and of inputs)."""
    import jax
    import jax.numpy as jnp

    params, width, random = [], shape[-1], np.random.default_rng(0)

    def normal(*sizes: int):
        scale = np.prod(sizes[:-1]) ** -0.5
        return jnp.asarray(random.normal(0, scale, sizes).astype("float32"))

    for what, *sizes in layers:
        if what == "dense":
            params.append((normal(width, sizes[0]), jnp.zeros(sizes[0])))
        elif what == "conv":
            params.append((normal(3, 3, width, sizes[0]), jnp.zeros(sizes[0])))
        elif what == "lstm":
            gates = 4 * sizes[0]
            params.append((normal(width, gates), normal(sizes[0], gates), jnp.zeros(gates)))
        else:
            params.append(())
        width = sizes[0] if sizes else width

    def lstm(x, kernel, recurrent, bias):
        def step(state, x):
            h, c = state
            i, f, g, o = jnp.split(x + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        zeros = jnp.zeros((x.shape[0], recurrent.shape[0]))
        return jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x @ kernel + bias, 0, 1))[0][0]

    def apply(params, x):
        for (what, *sizes), weights in zip(layers, params, strict=True):
            if what == "dense":
                x = x @ weights[0] + weights[1]
                x = jax.nn.relu(x) if sizes[1] else x
            elif what == "conv":
                x = jax.lax.conv_general_dilated(
                    x, weights[0], (sizes[1],) * 2, "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )  # fmt: skip
                x = jax.nn.relu(x + weights[1])
            else:
                x = x.mean((1, 2)) if what == "mean" else lstm(x, *weights)
        return x

    return params, apply


def jax_training(layers: Layers, x: np.ndarray, y: np.ndarray, batch: int) -> Callable:
    """Steps of Adam, compiled."""
    import jax
    import jax.numpy as jnp

    params, apply = _jax_network(layers, x.shape[1:])
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]  # donated: one each
    state = (params, *zeros, jnp.float32(0))

    def loss_of(params, x, y):
        logits = jax.nn.log_softmax(apply(params, x))
        return -jnp.take_along_axis(logits, y[:, None], 1).mean()

    def step(state, x, y):
        params, m, v, t = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), params, m, v)
        return (params, m, v, t), loss

    step = jax.jit(step, donate_argnums=0)

    def run():
        nonlocal state
        for rows in slices(x, batch):
            state, loss = step(state, x[rows], y[rows])
        return float(loss)

    return run


def jax_prediction(layers: Layers, x: np.ndarray, batch: int) -> Callable:
    """Outputs of all rows, compiled."""
    import jax

    params, apply = _jax_network(layers, x.shape[1:])
    apply = jax.jit(apply)

    def run():
        outputs = [apply(params, x[rows]) for rows in slices(x, batch)]
        return np.concatenate([np.asarray(part) for part in outputs])

    return run


# -- TensorFlow -----------------------------------------------------------------------------------


def _tensorflow_network(layers: Layers, shape: tuple):
    """(variables, a function of inputs)."""
    import tensorflow as tf

    groups, width = [], shape[-1]

    def normal(*sizes: int):
        return tf.Variable(tf.random.normal(sizes, stddev=float(np.prod(sizes[:-1])) ** -0.5))

    for what, *sizes in layers:
        if what == "dense":
            groups.append([normal(width, sizes[0]), tf.Variable(tf.zeros(sizes[0]))])
        elif what == "conv":
            groups.append([normal(3, 3, width, sizes[0]), tf.Variable(tf.zeros(sizes[0]))])
        elif what == "lstm":
            gates = 4 * sizes[0]
            bias = tf.Variable(tf.zeros(gates))
            groups.append([normal(width, gates), normal(sizes[0], gates), bias])
        else:
            groups.append([])
        width = sizes[0] if sizes else width

    def lstm(x, kernel, recurrent, bias):
        steps = tf.transpose(x @ kernel + bias, (1, 0, 2))
        h = c = tf.zeros((tf.shape(x)[0], recurrent.shape[0]))

        def body(n, h, c):
            i, f, g, o = tf.split(steps[n] + h @ recurrent, 4, axis=-1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return n + 1, tf.sigmoid(o) * tf.tanh(c), c

        return tf.while_loop(lambda n, *_: n < x.shape[1], body, (0, h, c))[1]

    def apply(x):
        for (what, *sizes), weights in zip(layers, groups, strict=True):
            if what == "dense":
                x = x @ weights[0] + weights[1]
                x = tf.nn.relu(x) if sizes[1] else x
            elif what == "conv":
                x = tf.nn.relu(tf.nn.conv2d(x, weights[0], sizes[1], "SAME") + weights[1])
            else:
                x = tf.reduce_mean(x, (1, 2)) if what == "mean" else lstm(x, *weights)
        return x

    return [v for group in groups for v in group], apply


def tensorflow_training(layers: Layers, x: np.ndarray, y: np.ndarray, batch: int) -> Callable:
    """Steps of Adam in a `tf.function`."""
    import tensorflow as tf

    variables, apply = _tensorflow_network(layers, x.shape[1:])
    ms, vs = ([tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(2))
    t = tf.Variable(0.0)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=apply(x))
            )
        grads = tape.gradient(loss, variables)
        t.assign_add(1.0)
        rate = 1e-3 * tf.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        for p, g, m, v in zip(variables, grads, ms, vs, strict=True):
            m.assign_add(0.1 * (g - m))
            v.assign_add(0.001 * (g * g - v))
            p.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))
        return loss

    def run():
        for rows in slices(x, batch):
            loss = step(tf.constant(x[rows]), tf.constant(y[rows]))
        return float(loss)

    return run


def tensorflow_prediction(layers: Layers, x: np.ndarray, batch: int) -> Callable:
    """Outputs of all rows in a `tf.function`."""
    import tensorflow as tf

    _, apply = _tensorflow_network(layers, x.shape[1:])
    apply = tf.function(apply)

    def run():
        outputs = [apply(tf.constant(x[rows])) for rows in slices(x, batch)]
        return np.concatenate([part.numpy() for part in outputs])

    return run


TRAINING = {"torch": torch_training, "jax": jax_training, "tensorflow": tensorflow_training}
PREDICTION = {"torch": torch_prediction, "jax": jax_prediction, "tensorflow": tensorflow_prediction}
