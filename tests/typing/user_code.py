"""What a user writes over keraslite and hub, as mypy sees it (`make lint`); it also runs."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import hub
import keraslite as keras
from keraslite import layers, ops
from keraslite.typing import Shape, Tensor

# -- layers and models ----------------------------------------------------------------------------


@keras.saving.register_keras_serializable("user_code")
class Scale(layers.Layer):
    """Multiply by a trained vector."""

    def __init__(self, initial: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape: Shape) -> None:
        self.scale = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial),
            name="scale",
        )

    def call(self, inputs: Tensor) -> Tensor:
        return ops.multiply(inputs, self.scale)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "initial": self.initial}


class Regressor(keras.Model):
    """A subclassed model with a train step of its own."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.hidden = layers.Dense(units, activation="relu")
        self.scale = Scale(0.5)
        self.out = layers.Dense(1)
        self.error = keras.metrics.MeanAbsoluteError(name="error")

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        return self.out(self.scale(self.hidden(x)))

    def train_step(self, data: tuple) -> dict[str, Tensor]:
        x, y = data

        def compute_loss() -> Tensor:
            return ops.mean(ops.square(self(x, training=True) - y))

        loss, gradients = keras.value_and_grad(compute_loss, variables=self.trainable_variables)()
        self.optimizer.apply(gradients, self.trainable_variables)
        self.error.update_state(y, self(x))
        return {"loss": loss, "error": self.error.result()}


def functional() -> keras.Model:
    """A functional model of two inputs."""
    image = keras.Input((8, 8, 3), name="image")
    table = keras.Input((4,), name="table")
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.concatenate([x, layers.Dense(4)(table)]) if hasattr(layers, "concatenate") else x
    x = layers.Dropout(0.1)(x) + 1.0
    outputs = layers.Dense(2, activation="softmax")(x)
    return keras.Model([image, table], outputs)


def texts() -> keras.Model:
    """A model that takes texts: a layer is of its own class, with the methods that it adds."""
    vectorize = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    vectorize.adapt(["a good film", "a dull one"])
    words: list[str] = vectorize.get_vocabulary()
    space = keras.utils.FeatureSpace({"age": "float_normalized"})
    space.adapt({"age": [20.0, 40.0]})
    assert space.get_inputs()
    return keras.Sequential([vectorize, layers.Embedding(len(words), 4)])


class Stop(keras.callbacks.Callback):
    """A callback that ends training."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None and logs["loss"] < 1e-3:
            self.model.stop_training = True


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A source of batches."""
    for _ in range(2):
        yield np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")


def train() -> float:
    """Compile, fit, evaluate, predict, save, load."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(8), Scale(), layers.Dense(1)])
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 100)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=keras.losses.MeanSquaredError(),
        metrics=["mae", keras.metrics.RootMeanSquaredError()],
    )
    x, y = np.ones((16, 3), "float32"), np.zeros((16, 1), "float32")
    history = model.fit(
        x,
        y,
        epochs=2,
        validation_split=0.25,
        verbose=0,
        callbacks=[Stop(), keras.callbacks.EarlyStopping(patience=2)],
    )
    model.fit(batches(), verbose=0)
    losses: list[float] = history.history["loss"]
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    predictions = model.predict(x, verbose=0)
    assert predictions.shape == (16, 1)
    model.summary()
    for weight in model.trainable_weights:
        assert weight.shape and weight.numpy().dtype == "float32"
    model.save("model.keras")
    restored = keras.saving.load_model("model.keras", backend="numpy")
    restored.save_weights("model.safetensors")
    model.load_weights("model.safetensors")
    return results["loss"] + losses[-1]


def custom_training() -> None:
    """A model with a train step, moved while it trains."""
    model = Regressor(4)
    model.compile("sgd")
    model.fit(np.ones((8, 3), "float32"), np.zeros((8, 1), "float32"), verbose=0)
    model.to_backend("jax")
    model.fit(np.ones((8, 3), "float32"), np.zeros((8, 1), "float32"), verbose=0)


def operations() -> None:
    """Ops, random numbers, gradients, backends."""
    name: str = keras.backend()
    with keras.use_backend("torch"):
        x = ops.reshape(ops.arange(6, dtype="float32"), (2, 3))
        y = keras.random.normal((3, 2), seed=1)
        z = ops.softmax(ops.matmul(x, y) * 2.0, axis=-1)
        rows, columns = z.shape
        largest = float(ops.max(z[0]))
        seeds = keras.random.SeedGenerator(3)
        dropped = keras.random.dropout(z, 0.5, seed=seeds)
        slope = keras.grad(lambda v: ops.sum(v**2))(z)
    array: np.ndarray = ops.convert_to_numpy(keras.to_backend(slope, "numpy"))
    step = keras.jit(lambda a: a + 1)
    assert rows == columns and largest > 0 and name and step(array) is not None
    assert dropped is not None
    value = keras.Variable(np.zeros(3), trainable=True, dtype="float32")
    value.assign(value + 1)
    policy = keras.dtype_policies.get("mixed_bfloat16")
    keras.config.set_floatx("float32")
    assert layers.Dense(1, dtype=policy).compute_dtype == "bfloat16"
    keras.backend.allow_tensor_float_32(False)


# -- hub ------------------------------------------------------------------------------------------


def classify(preset: str, folder: str) -> np.ndarray:
    """Fine-tune a classifier on texts."""
    (texts, labels), _ = hub.datasets.load_reviews()
    classifier = hub.BertClassifier.from_preset(preset, num_classes=2, dtype="float32")
    classifier.compile(optimizer=keras.optimizers.AdamW(5e-5))
    classifier.fit(texts[:8], labels[:8], batch_size=4, epochs=1, verbose=0)
    classifier.save_to_preset(folder)
    again = hub.TextClassifier.from_preset(folder, backend="numpy")
    assert again.num_classes == 2
    assert again.preprocessor.tokenizer.vocabulary_size() > 0
    return again.predict(["Not bad at all."], verbose=0)


def generate(preset: str) -> list[str]:
    """Continue prompts."""
    model = hub.CausalLM.from_preset(preset)
    model.compile(sampler="top_p")
    sampling = hub.Sampling(do_sample=True, top_k=5, temperature=0.7)
    texts: list[str] = model.generate(["Once"], max_new_tokens=8, sampler=sampling, seed=1)
    text: str = model.generate("Once", max_new_tokens=8, top_k=5)
    several: list[list[str]] = model.generate(
        ["Once"], max_new_tokens=8, do_sample=True, num_return_sequences=2
    )
    ids: dict[str, np.ndarray] = model.generate(["Once"], max_new_tokens=8, return_ids=True)
    _, probability = model.generate("Once", max_new_tokens=8, return_scores=True)
    assert len(text) >= len("Once") and len(several[0]) == 2 and float(probability) <= 0
    assert ids["token_ids"].shape == ids["padding_mask"].shape
    for piece in model.generate("Once", max_new_tokens=8, stream=True):
        print(piece, end="")
    model.enable_lora(4)
    model.fit({"prompts": ["a"], "responses": ["b"]}, verbose=0)
    model.save_adapter("adapter")
    scores: np.ndarray = model.score(["a text"])
    model.quantize("int8")
    return texts[: len(scores)]


def embed(preset: str) -> np.ndarray:
    """Vectors of texts, their likeness."""
    embedder = hub.load(preset, hub.TextEmbedder, backend="numpy")
    vectors: np.ndarray = embedder.predict(["a small dog", "a little puppy"], verbose=0)
    return vectors @ vectors.T


def find(preset: str) -> None:
    """Entities, masked words, labels of images, and other tasks."""
    tagger = hub.BertTokenClassifier.from_preset(preset, num_classes=3)
    for entity in tagger.find_entities("Ada lives in Rome")[0]:
        print(entity["word"], entity["score"])
    masked = hub.MaskedLM.from_preset(preset)
    word, probability = masked.fill_mask("A [MASK] dog")[0][0][0]
    clip = hub.CLIPZeroShotClassifier.from_preset("clip_vit_base_patch32")
    print(word, probability, clip.classify("cat.jpg", ["cat", "dog"], top_k=1)[0][0]["label"])
    answers = hub.T5Seq2SeqLM.from_preset("t5_small_multi").generate(["translate: a"], num_beams=2)
    print(answers)


def draw() -> np.ndarray:
    """Images of a text."""
    model = hub.StableDiffusion(img_height=512, img_width=512)
    model.scheduler = "dpm_solver"
    images = model.text_to_image("an astronaut", batch_size=2, num_steps=20, seed=1)
    pipeline = hub.StableDiffusion.from_preset("stable_diffusion_v2.1", dtype="float16")
    pipeline.image_to_image("as a watercolour", images[0], strength=0.6)
    pipeline.enable_lora(8)
    pipeline.compile("adamw")
    pipeline.fit(["a.png"], ["a shape"], epochs=1)
    pipeline.save_lora("style")
    return images


def backbone() -> None:
    """A network without weights of anybody, under another head."""
    bert = hub.BertBackbone(
        vocabulary_size=99, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16
    )
    ids = np.ones((2, 5), "int32")
    outputs = bert({"token_ids": ids, "segment_ids": ids, "padding_mask": ids})
    assert tuple(outputs["sequence_output"].shape) == (2, 5, 8)
    presets = hub.list_presets("bert")
    assert presets["minilm_l6_en"]["parameters"] > 0 and hub.info("minilm_l6_en")
