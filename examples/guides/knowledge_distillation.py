"""Teach a small network with the answers of a large one.

    python examples/guides/knowledge_distillation.py [--backend torch]

Four sorts of oscillation are told apart under noise. The teacher, a large network, has learnt from
many labelled recordings. The student, with a quarter of its weights, has twenty labelled ones, and
many without a label. On these it learns to answer as the teacher does: not the best class alone but
all its probabilities, softened by a temperature, which tell how alike the sorts are. The loss of
`Distiller` is an override of `compute_loss`, which runs on every backend. The same student trained
on the twenty labels shows what the teacher is worth.
"""

import argparse
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import layers, ops

LENGTH = 96
KNOWN = 20  # labels that the student is given
SORTS = ("sine", "square", "sawtooth", "triangle")


def make_recordings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return recordings (count, LENGTH, 1) of any pitch and phase, and their sorts."""
    random = np.random.default_rng(seed)
    labels = random.integers(len(SORTS), size=count)
    pitch, phase = random.uniform((2, 0), (5, 1), (count, 2)).T[..., None]
    turn = (pitch * np.linspace(0, 1, LENGTH) + phase) % 1
    shapes = np.stack(
        [
            1.4 * np.sin(2 * np.pi * turn),
            np.sign(turn - 0.5),
            1.7 * (2 * turn - 1),
            1.7 * (4 * np.abs(turn - 0.5) - 1),
        ]
    )
    signal = shapes[labels, np.arange(count)] + random.normal(0, 0.3, (count, LENGTH))
    return signal[..., None].astype("float32"), labels


def build(filters: int, name: str) -> keras.Model:
    """Return a network, from recordings to logits of the sorts."""
    inputs = keras.Input((LENGTH, 1))
    x = layers.Conv1D(filters, 9, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv1D(filters, 9, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(len(SORTS))(x), name=name)


class Distiller(keras.Model):
    """A student that is trained on the answers of a teacher.

    Labels of -1 are unknown; on the others the student also learns the label.
    """

    def __init__(self, teacher: keras.Model, student: keras.Model, temperature: float = 2.0):
        super().__init__()
        self.teacher, self.student, self.temperature = teacher, student, temperature
        self.teacher.trainable = False
        self.distillation = keras.metrics.Mean(name="distillation")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.student(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        answers = ops.stop_gradient(self.teacher(x, training=False))
        soft = keras.losses.kl_divergence(
            ops.softmax(answers / self.temperature), ops.softmax(y_pred / self.temperature)
        )
        soft = ops.mean(soft) * self.temperature**2
        self.distillation.update_state(soft)
        return soft + super().compute_loss(x, y, y_pred, sample_weight, training)


def compile_and_fit(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Train on labelled recordings; those with the label -1 do not count."""
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
    )
    model.fit(x, y, batch_size=50, epochs=epochs, verbose=0)


def main() -> None:
    """Train the teacher, the student without it, and the student with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    recordings, labels = make_recordings(2000, seed=0)
    unseen, unseen_labels = make_recordings(1000, seed=1)

    def accuracy(model: keras.Model) -> float:
        return float(np.mean(model.predict(unseen, verbose=0).argmax(axis=1) == unseen_labels))

    teacher = build(24, "teacher")
    compile_and_fit(teacher, recordings, labels, epochs=10)
    alone = build(12, "alone")
    compile_and_fit(alone, recordings[:KNOWN], labels[:KNOWN], epochs=100)

    student = build(12, "student")
    known = np.where(np.arange(len(labels)) < KNOWN, labels, -1)
    compile_and_fit(Distiller(teacher, student), recordings, known, epochs=12)

    right = {model.name: accuracy(model) for model in (teacher, alone, student)}
    for model in (teacher, alone, student):
        print(f"  {model.name:8} {model.count_params():6,} weights, {right[model.name]:.1%} right")
    assert right["teacher"] > 0.9
    assert right["student"] > right["alone"] + 0.08


if __name__ == "__main__":
    main()
