"""Objects of KerasHub as the JSON of its presets: backbones, tasks, preprocessors, converters.

An object is its module, its class, its arguments and the name that it is registered by, as Keras
serializes it; the modules and the automatic names follow from the class.
"""

import datetime
from collections.abc import Mapping
from typing import Any

import keraslite as keras
from hub.convert.kerashub_families import ACTIVATIONS, KerasHubFamily
from keraslite.naming import to_snake_case

# The versions whose presets are written.
_KERAS, _KERAS_HUB = "3.15.1", "0.32.0"
# The prefixes of classes whose modules are not called as Keras calls their objects.
_FOLDERS = {"ViT": "vit", "DeiT": "deit", "ResNet": "resnet", "EfficientNet": "efficientnet"}
# Arguments of a masked LM's preprocessor of KerasHub that are fixed in ours.
_MASKING = {"mask_token_rate": 0.8, "random_token_rate": 0.1}
_GELU = {"module": "builtins", "class_name": "function", "registered_name": "function"}


def record(
    prefix: str, name: str, config: Mapping[str, Any], dtype: str | None = None
) -> dict[str, Any]:
    """Return an object of KerasHub as Keras serializes it.

    Args:
        prefix: of the names of the classes of its family, such as "Bert".
        name: of the class.
        config: its arguments.
        dtype: the name of its policy; None for a class whose config has none.

    >>> made = record("T5", "T5Seq2SeqLM", {})
    >>> made["module"], made["config"]
    ('keras_hub.src.models.t5.t5_seq_2_seq_lm', {'name': 't5_seq2_seq_lm'})
    """
    folder = _FOLDERS.get(prefix, to_snake_case(prefix))
    file = f"{folder}_{to_snake_case(name.removeprefix(prefix))}"
    place = f"{folder}.{file.replace('seq2_seq', 'seq_2_seq')}"
    base: dict[str, Any] = {"name": to_snake_case(name)}
    if dtype is not None:
        policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}}
        base |= {"trainable": True, "dtype": {**policy, "registered_name": None}}
    return {
        "module": f"keras_hub.src.models.{place}", "class_name": name,
        "config": {**base, **config}, "registered_name": f"keras_hub>{name}",
    }  # fmt: skip


def backbone_config(
    theirs: KerasHubFamily, arguments: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the config of KerasHub's backbone for the arguments of ours.

    Args:
        theirs: the architecture.
        arguments: of our backbone.
        settings: what KerasHub's backbone says of the head: `tie_embedding_weights`.
    """
    if theirs.write is not None:
        return theirs.write(arguments)
    config = {key: {**arguments, **settings}[key] for key in theirs.config}
    names = {ours: name for name, ours in ACTIVATIONS.items()}
    names["gelu_pytorch_tanh"] = names["gelu_new"]
    if "activation" in config:
        name = names.get(config["activation"], config["activation"])
        # KerasHub's own function, which Keras does not know by its name.
        is_own = name == "gelu_approximate"
        config["activation"] = {**_GELU, "config": f"keras_hub>{name}"} if is_own else name
    return config


def task_config(task: Any, theirs: KerasHubFamily) -> dict[str, Any]:
    """Return the arguments of KerasHub's task beside backbone and preprocessor.

    Args:
        task: ours.
        theirs: the architecture.
    """
    if task.task == "TextEmbedder":
        return {"pooling_mode": task.pooling, "normalize": task.normalize}
    if task.task not in ("TextClassifier", "ImageClassifier"):
        return {}
    config = {
        "num_classes": task.num_classes,
        "activation": keras.activations.serialize(task.activation),
        "dropout": task.dropout.rate,
    }
    if "hidden" in theirs.heads[task.task]:
        config["hidden_dim"] = task.backbone.hidden_dim
    return {**config, **theirs.head_config}


def preprocessor_config(preprocessor: Any, task: str) -> dict[str, Any]:
    """Return the arguments of KerasHub's preprocessor beside its tokenizer.

    Args:
        preprocessor: ours.
        task: the name of its task.

    Raises:
        ValueError: it truncates pairs in a way that KerasHub does not know.
    """
    length, truncate = preprocessor.sequence_length, preprocessor.truncate
    config: dict[str, Any] = {"config_file": "preprocessor.json"}
    if task == "CausalLM":
        tokenizer = preprocessor.tokenizer
        [(ids, _)] = tokenizer.encode_batch("a")
        starts = bool(len(ids)) and int(ids[0]) == tokenizer.bos_token_id
        return config | {
            "sequence_length": length, "add_start_token": starts, "add_end_token": True,
        }  # fmt: skip
    if task == "Seq2SeqLM":
        return config | {"encoder_sequence_length": length, "decoder_sequence_length": length}
    if truncate != "longest_first":
        raise ValueError(
            f"A preprocessor of KerasHub cannot have truncate={truncate!r}: it truncates the "
            "longer text of a pair first. Use truncate='longest_first'."
        )
    config |= {"sequence_length": length, "truncate": "round_robin"}
    if task == "MaskedLM":
        config |= {
            "mask_selection_rate": preprocessor.mask_selection_rate,
            "mask_selection_length": preprocessor.mask_selection_length, **_MASKING,
        }  # fmt: skip
    return config


def metadata(theirs: KerasHubFamily, parameter_count: int) -> dict[str, Any]:
    """Return the content of a metadata.json.

    Args:
        theirs: the architecture.
        parameter_count: the number of the weights of the backbone.
    """
    return {
        "keras_version": _KERAS, "keras_hub_version": _KERAS_HUB,
        "parameter_count": parameter_count,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": theirs.tasks(),
    }  # fmt: skip
