"""The weights of a checkpoint: one file, or several behind an index; safetensors first."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hub.files import Files
from hub.weights.torch_files import open_torch
from keraslite.saving.safetensors import SafetensorsFile, open_safetensors

WEIGHTS = "model.safetensors"
# The forms that are read, best first: the one file, how it is opened. Shards stand behind
# "<file>.index.json".
DIFFUSION_WEIGHTS = "diffusion_pytorch_model.safetensors"
READERS = {
    WEIGHTS: open_safetensors,
    "pytorch_model.bin": open_torch,
    DIFFUSION_WEIGHTS: open_safetensors,
    "diffusion_pytorch_model.bin": open_torch,
    # Half of the bytes, where a repository has nothing else.
    "model.fp16.safetensors": open_safetensors,
    "diffusion_pytorch_model.fp16.safetensors": open_safetensors,
}
# Formats of other frameworks, named in the error so that nobody has to guess.
_UNREAD = ("tf_model.h5", "flax_model.msgpack", "model.weights.h5")


class Weights(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint by their names on disk, whichever file they are in.

    Behaves as one `SafetensorsFile`: items are zero-copy arrays that may be written to.
    """

    def __init__(self, files: list[SafetensorsFile]) -> None:
        self.files = files
        self._sources = {name: file for file in files for name in file}
        self._stored: dict[str, str] = {}  # where a name is not the one on disk

    def rename(self, patterns: Mapping[str, str]) -> None:
        """Gives tensors of older files their names of today.

        Args:
            patterns: regular expressions -> what stands in place of what they find.
        """
        for name in list(self._sources) if patterns else ():
            new = name
            for pattern, text in patterns.items():
                new = re.sub(pattern, text, new)
            if new != name and new not in self._sources:
                self._sources[new] = self._sources.pop(name)
                self._stored[new] = name

    def __getitem__(self, name: str) -> np.ndarray:
        return self.source(name)[self._stored.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def source(self, name: str) -> SafetensorsFile:
        """Returns the file that holds a tensor; an unknown name is a KeyError."""
        try:
            return self._sources[name]
        except KeyError:
            where = ", ".join(str(file.path) for file in self.files)
            raise KeyError(f"{where} holds no tensor {name!r}") from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor without reading it."""
        return self.source(name).shape(self._stored.get(name, name))

    def dtype(self, name: str) -> str:
        """Returns the dtype of a tensor, such as "bfloat16"."""
        return self.source(name).dtype(self._stored.get(name, name))

    def release(self, name: str) -> None:
        """Gives the memory of a tensor that was copied back to the system."""
        self.source(name).release(self._stored.get(name, name))


def open_file(files: Files, name: str) -> Weights:
    """Opens one file of weights, whatever it is called.

    Args:
        files: what `resolve_file` returned.
        name: of the file; what is not called .safetensors is read as `torch.save` writes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds other things than tensors.
    """
    opened = open_safetensors if name.endswith(".safetensors") else open_torch
    return Weights([opened(files.path(name))])


def open_weights(files: Files, variant: str | None = None) -> Weights:
    """Opens the weights of a checkpoint; nothing is read before it is used.

    Args:
        files: what `resolve` returned.
        variant: of several in one folder, such as "fp16" for model.fp16.safetensors.

    Raises:
        FileNotFoundError: there are no weights, or a shard is missing.
        NotImplementedError: the weights are there in a format that is not read only.
        ValueError: a file is damaged, or the index and the shards disagree.
    """
    forms = READERS
    if variant is not None:
        parts = ((*name.rpartition(".")[::2], opened) for name, opened in READERS.items())
        named = {f"{stem}.{variant}.{kind}": opened for stem, kind, opened in parts}
        forms = {name: opened for name, opened in named.items() if name in files}
        if not forms:
            raise FileNotFoundError(
                f"{files.location} holds no weights of the variant {variant!r}; {files.listing()}"
            )
    for name, opened in forms.items():
        if name in files:
            return Weights([opened(files.path(name))])
        if f"{name}.index.json" in files:
            return _open_shards(files, name)
    for name in _UNREAD:
        if name in files:
            raise NotImplementedError(
                f"{files.location} has its weights as {name} only, which is not read; use a "
                f"checkpoint with {' or '.join(READERS)}, or save it as one"
            )
    raise FileNotFoundError(
        f"{files.location} holds no weights: neither {' nor '.join(READERS)} nor an index of "
        f"shards; {files.listing()}"
    )


def _open_shards(files: Files, name: str) -> Weights:
    index = f"{name}.index.json"
    shards = shard_names(files, index, files.json(index).get("weight_map"))
    # Paths first, so that a missing shard is found before anything is mapped.
    paths = files.paths(shards)
    opened = []
    for shard, promised in shards.items():
        file = READERS[name](paths[shard])
        missing, extra = sorted(promised - file.keys()), sorted(file.keys() - promised)
        if missing or extra:
            raise ValueError(
                f"{index} of {files.location} and {shard} disagree: missing in the shard "
                f"{missing[:8]} ({len(missing)}), not in the index {extra[:8]} ({len(extra)})"
            )
        opened.append(file)
    return Weights(opened)


def shard_names(
    files: Files, index: str, weight_map: Any, suffix: str | None = None
) -> dict[str, set[str]]:
    """Returns the tensors each shard should hold; file names out of an index are not trusted."""
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} of {files.location} has no weight_map")
    suffix = suffix or index.removesuffix(".index.json").rpartition(".")[2]
    shards: dict[str, set[str]] = {}
    for tensor, shard in weight_map.items():
        plain = isinstance(shard, str) and re.fullmatch(rf"\w[\w.-]*\.{suffix}", shard, re.ASCII)
        if not plain or ".." in shard:
            raise ValueError(
                f"{index} of {files.location} puts tensor {tensor!r} into {shard!r}: expected the "
                f"name of a .{suffix} file beside the index"
            )
        shards.setdefault(shard, set()).add(tensor)
    return dict(sorted(shards.items()))
