"""Open presets that we wrote in KerasHub, and store its outputs; run in a process of its own.

python tests/support/kerashub_opens.py FOLDER

Of each folder `<name>` with a batch beside it, `<name>.batch.npz`, the outputs go to `<name>.out.npz`,
what KerasHub made of its `pictures` to `<name>.pictures.npy`, and what it made of the texts of
`<name>.texts.json` to `<name>.ids.json`. `again.json` says how
what KerasHub saves of the model differs from what we wrote.
"""

import json
import sys
from pathlib import Path

import numpy as np

# KerasHub's general classes, which find the class of a preset.
_CLASSES = (
    "Backbone", "TextClassifier", "TextEmbedder", "MaskedLM", "CausalLM", "Seq2SeqLM",
    "ImageClassifier",
)  # fmt: skip
_SET_ANEW = ("date_saved", "name")  # of a file, and of an object in a process


def _differences(ours, theirs, at=""):
    """Where two contents of JSON differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            if key in _SET_ANEW:
                continue
            if key not in ours or key not in theirs:
                yield f"{at}/{key} only in {'ours' if key in ours else 'theirs'}"
            else:
                yield from _differences(ours[key], theirs[key], f"{at}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and "tokens" in at:
        yield from [f"{at}: {ours} {theirs}"] if sorted(ours) != sorted(theirs) else []
    elif ours != theirs:
        yield f"{at}: {ours!r} {theirs!r}"


def _rate(name, item):
    """The numbers of an optimizer's state, of which there are two."""
    return float(item[()]) if name.startswith("optimizer/") else None


def _arrays(path):
    import h5py

    held = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                held.update({name: [list(item.shape), str(item.dtype), _rate(name, item)]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return held


def _compare(ours: Path, theirs: Path):
    """Where what KerasHub saved differs from what it opened."""
    names = {str(p.relative_to(f)) for f in (ours, theirs) for p in f.rglob("*") if p.is_file()}
    for name in sorted(names):
        if not ((ours / name).exists() and (theirs / name).exists()):
            yield f"{name} only in {'ours' if (ours / name).exists() else 'theirs'}"
        elif name.endswith(".h5"):
            yield from _differences(_arrays(ours / name), _arrays(theirs / name), name)
        elif name.endswith(".json"):
            read = (json.loads((f / name).read_text(encoding="utf-8")) for f in (ours, theirs))
            yield from _differences(*read, name)
        elif not name.endswith(".spm") and (ours / name).read_text() != (theirs / name).read_text():
            yield f"{name} has another content"


def main(folder: Path) -> None:
    """Open all presets in a folder."""
    import keras
    from keras_hub import models

    differences = {}
    for batch_file in sorted(folder.glob("*.batch.npz")):
        name = batch_file.name.removesuffix(".batch.npz")
        preset = folder / name
        batch = dict(np.load(batch_file))
        is_task = (preset / "task.json").exists()
        stated = json.loads((preset / ("task.json" if is_task else "config.json")).read_text())
        general = next(base for base in _CLASSES if stated["class_name"].endswith(base))
        model = getattr(models, general).from_preset(str(preset))
        pictures = {key: batch.pop(key) for key in list(batch) if key.endswith("pictures")}
        out = model(batch.get("images", batch))
        out = out if isinstance(out, dict) else {"output": out}
        np.savez(
            folder / f"{name}.out.npz", **{k: keras.ops.convert_to_numpy(v) for k, v in out.items()}
        )
        again = folder / "again" / name
        model.save_to_preset(again)
        for key, value in pictures.items():
            np.save(folder / f"{name}.{key}.npy", np.asarray(model.preprocessor(value)))
        texts_file = folder / f"{name}.texts.json"
        if texts_file.exists():
            tokenizer = models.Tokenizer.from_preset(str(preset))
            texts = json.loads(texts_file.read_text())
            answers = {"ids": [[int(i) for i in tokenizer(text)] for text in texts]}
            if is_task:
                preprocessor = model.preprocessor
                if "Seq2Seq" in type(model).__name__:
                    batch = preprocessor({"encoder_text": texts, "decoder_text": texts})[0]
                else:
                    batch = preprocessor(texts)
                batch = batch[0] if isinstance(batch, tuple) else batch
                if "Masked" not in type(model).__name__:  # which draws its masks
                    answers |= {k: np.asarray(v).astype(int).tolist() for k, v in batch.items()}
            else:
                tokenizer.save_to_preset(again)
                if (preset / "audio_converter.json").exists():
                    _converter(preset).save_to_preset(again)
            (folder / f"{name}.ids.json").write_text(json.dumps(answers))
        differences[name] = list(_compare(preset, again))
    (folder / "again.json").write_text(json.dumps(differences))


def _converter(preset: Path):
    """The audio converter of a preset."""
    from keras_hub.layers import AudioConverter

    return AudioConverter.from_preset(str(preset))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
