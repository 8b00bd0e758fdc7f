"""Call models from eight threads, cold and warm, while another thread trains the same weights.

    python scripts/stress_threads.py [--backends jax torch ...] [--calls 2000]

Tiny checkpoints: predictions and calls of a classifier, texts of a language model, embeddings, and
images of Stable Diffusion. Every fourth round has a new model, which is cold. While nobody trains,
all answers must be those of one thread; beside training they must be finite. Calls are shared out
over the backends; the exit status is 1 if any failed.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import bert_checkpoints  # noqa: E402
import diffusion_checkpoints  # noqa: E402
import text_checkpoints  # noqa: E402
from threads import Beside, in_threads  # noqa: E402

import hub  # noqa: E402
import keraslite as keras  # noqa: E402

_THREADS = 8
_TEXTS = ["the quick fox", "a dog", "the lazy dog jumps"]


def _classifier(folder: Path) -> Any:
    return hub.TextClassifier.from_preset(folder / "bert", num_classes=3)


def _diffusion(folder: Path) -> Any:
    return hub.StableDiffusion.from_preset(folder / "diffusion", img_height=32, img_width=32)


# Name -> (how a model is made, what a thread calls, what trains it beside).
_CASES: dict[str, tuple[Callable, Callable, Callable | None]] = {
    "predict": (
        _classifier, lambda m: m.predict(_TEXTS, verbose=0),
        lambda m: m.fit(_TEXTS, [0, 1, 2], verbose=0),
    ),
    "predict_on_batch": (
        _classifier, lambda m: m.predict_on_batch(_TEXTS),
        lambda m: m.fit(_TEXTS, [0, 1, 2], verbose=0),
    ),
    "call": (
        _classifier, lambda m: keras.ops.convert_to_numpy(m(m.preprocessor(_TEXTS))),
        lambda m: m.fit(_TEXTS, [0, 1, 2], verbose=0),
    ),
    "embed": (
        lambda f: hub.TextEmbedder.from_preset(f / "bert"),
        lambda m: m.predict(_TEXTS, verbose=0), None,
    ),
    "generate": (
        lambda f: hub.CausalLM.from_preset(f / "gpt2"),
        lambda m: m.generate(_TEXTS, max_new_tokens=4),
        lambda m: m.fit(_TEXTS, verbose=0),
    ),
    "draw": (
        _diffusion, lambda m: m.draw("a cat", num_steps=2, seed=1), None,
    ),
}  # fmt: skip


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-5)
    return bool(a == b)


def _stress(backend: str, name: str, folder: Path, rounds: int) -> tuple[int, int]:
    """Return the number of calls of one case, and of those that failed."""
    make, call, train = _CASES[name]
    calls = failures = 0

    def attempt(check: Callable) -> None:
        nonlocal calls, failures

        def one(_: int) -> bool:
            try:
                return check(call(model))
            except Exception:
                traceback.print_exc()
                return False

        answers = in_threads(one, _THREADS)
        calls, failures = calls + len(answers), failures + answers.count(False)

    with keras.backend.backend_scope(backend):
        keras.utils.set_random_seed(0)
        expected = call(make(folder))
        trains = train is not None and backend != "numpy"
        for i in range(rounds):
            if i % 4 == 0:  # cold
                keras.utils.set_random_seed(0)
                model = make(folder)
                if trains:
                    model.compile(keras.optimizers.Adam(1e-4), **_losses(name))
            if trains and i % 4 == 3:
                with Beside(partial(train, model)):
                    attempt(lambda out: not isinstance(out, np.ndarray) or np.isfinite(out).all())
            else:
                attempt(lambda out: _same(out, expected))
    return calls, failures


def _losses(name: str) -> dict[str, Any]:
    if name == "generate":
        return {}
    return {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}


def main() -> int:
    """Run all cases and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=keras.backend.available())
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--only", nargs="+", default=list(_CASES), choices=list(_CASES))
    options = parser.parse_args()
    total = failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bert_checkpoints.make(folder / "bert")
        text_checkpoints.make(folder / "gpt2", "gpt2")
        diffusion_checkpoints.pipeline(folder / "diffusion", "v1")
        rounds = -(-options.calls // (_THREADS * len(options.backends) * len(options.only)))
        for backend in options.backends:
            for case in options.only:
                start = time.perf_counter()
                calls, failures = _stress(backend, case, folder, rounds)
                total, failed = total + calls, failed + failures
                print(f"{backend:10} {case:16} {calls:5} calls, {failures} failed, "
                      f"{time.perf_counter() - start:.1f} s", flush=True)  # fmt: skip
    print(f"{total} calls, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
