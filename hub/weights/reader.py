"""The weights of a checkpoint: one file, or several behind an index; safetensors first."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hub.files import Files
from hub.weights.torch_files import open_torch
from keraslite.saving.safetensors import SafetensorsFile, open_safetensors

WEIGHTS = "model.safetensors"
TORCH_WEIGHTS = "pytorch_model.bin"
DIFFUSION_WEIGHTS = "diffusion_pytorch_model.safetensors"
# Names of files and their readers, preferred ones first. Shards have an index, "<name>.index.json".
READERS = {
    WEIGHTS: open_safetensors,
    TORCH_WEIGHTS: open_torch,
    DIFFUSION_WEIGHTS: open_safetensors,
    "diffusion_pytorch_model.bin": open_torch,
    # In half precision, for repositories that have nothing else.
    "model.fp16.safetensors": open_safetensors,
    "diffusion_pytorch_model.fp16.safetensors": open_safetensors,
}
# Formats of other frameworks, which the error names.
_UNREAD = ("tf_model.h5", "flax_model.msgpack", "model.weights.h5")


class Weights(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint by name, in one file or several.

    Items are arrays that share the memory of the file and may be written to.

    Args:
        files: the opened files.
    """

    def __init__(self, files: list[SafetensorsFile]) -> None:
        self.files = files
        self._sources = {name: file for file in files for name in file}
        self._stored: dict[str, str] = {}  # new name -> the name on disk

    def rename(self, patterns: Mapping[str, str]) -> None:
        """Rename tensors, such as those of older files.

        Args:
            patterns: regular expressions -> their replacements.
        """
        for name in list(self._sources) if patterns else ():
            new = name
            for pattern, text in patterns.items():
                new = re.sub(pattern, text, new)
            if new != name and new not in self._sources:
                self._sources[new] = self._sources.pop(name)
                self._stored[new] = name

    def restore_tied(self, tied: Mapping[str, str]) -> None:
        """Give a copy the name of its original where a file has only the copy.

        Args:
            tied: name of a copy -> name of the original; the first present copy is taken.
        """
        for copy, original in tied.items():
            if original not in self._sources and copy in self._sources:
                self._sources[original] = self._sources.pop(copy)
                self._stored[original] = self._stored.pop(copy, copy)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.source(name)[self._stored.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def source(self, name: str) -> SafetensorsFile:
        """Return the file that holds a tensor; raise KeyError if none does.

        Args:
            name: of the tensor.
        """
        try:
            return self._sources[name]
        except KeyError:
            where = ", ".join(str(file.path) for file in self.files)
            raise KeyError(f"{where} holds no tensor {name!r}") from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it.

        Args:
            name: of the tensor.
        """
        return self.source(name).shape(self._stored.get(name, name))

    def dtype(self, name: str) -> str:
        """Return the dtype of a tensor, such as "bfloat16".

        Args:
            name: of the tensor.
        """
        return self.source(name).dtype(self._stored.get(name, name))

    def release(self, name: str) -> None:
        """Return the memory of a tensor to the system, once the tensor was copied.

        Args:
            name: of the tensor.
        """
        self.source(name).release(self._stored.get(name, name))


def open_file(files: Files, name: str) -> Weights:
    """Open one file of weights of any name.

    Args:
        files: of the checkpoint.
        name: of the file; without the ending .safetensors it is read as a file of `torch.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds objects other than tensors.
    """
    reader = open_safetensors if name.endswith(".safetensors") else open_torch
    return Weights([reader(files.path(name))])


def open_weights(files: Files, variant: str | None = None) -> Weights:
    """Open the weights of a checkpoint; each tensor is read when it is used.

    Args:
        files: of the checkpoint.
        variant: of several in one folder, such as "fp16" for model.fp16.safetensors.

    Raises:
        FileNotFoundError: there are no weights, or a shard is missing.
        NotImplementedError: the weights are only in a format that is not read.
        ValueError: a file is damaged, or the index and the shards disagree.
    """
    readers = READERS
    if variant is not None:
        parts = ((*name.rpartition(".")[::2], reader) for name, reader in READERS.items())
        named = {f"{stem}.{variant}.{ending}": reader for stem, ending, reader in parts}
        readers = {name: reader for name, reader in named.items() if name in files}
        if not readers:
            raise FileNotFoundError(
                f"{files.location} holds no weights of the variant {variant!r}; {files.listing()}"
            )
    for name, reader in readers.items():
        if name in files:
            return Weights([reader(files.path(name))])
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
    for shard, expected in shards.items():
        file = READERS[name](paths[shard])
        missing, extra = sorted(expected - file.keys()), sorted(file.keys() - expected)
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
    """Return the shards of an index, whose file names are not trusted, and their tensors.

    Args:
        files: of the checkpoint.
        index: the name of the index.
        weight_map: tensor -> shard, as the index says.
        suffix: of the shards' names; by default that of the index without ".index.json".

    Raises:
        ValueError: a name is not that of a file beside the index.
    """
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} of {files.location} has no weight_map")
    suffix = suffix or index.removesuffix(".index.json").rpartition(".")[2]
    shards: dict[str, set[str]] = {}
    for tensor, shard in weight_map.items():
        valid = isinstance(shard, str) and re.fullmatch(rf"\w[\w.-]*\.{suffix}", shard, re.ASCII)
        if not valid or ".." in shard:
            raise ValueError(
                f"{index} of {files.location} puts tensor {tensor!r} into {shard!r}: expected the "
                f"name of a .{suffix} file beside the index"
            )
        shards.setdefault(shard, set()).add(tensor)
    return dict(sorted(shards.items()))
