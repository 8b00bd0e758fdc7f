"""SpecAugment against transformers, with the same draws."""

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from hub.preprocessing.spec_augment import spec_augment

CASES = {
    "time": {"mask_time_prob": 0.3, "mask_time_length": 4, "mask_time_min_masks": 0},
    "few": {"mask_time_prob": 0.01, "mask_time_length": 7, "mask_time_min_masks": 3},
    "bands": {"mask_time_prob": 0.0, "mask_feature_prob": 0.4, "mask_feature_length": 3},
    "both": {"mask_time_prob": 0.2, "mask_time_length": 5, "mask_feature_prob": 0.2,
             "mask_feature_length": 2, "mask_feature_min_masks": 2},
    "all of it": {"mask_time_prob": 1.0, "mask_time_length": 10, "mask_feature_prob": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_masks_are_those_of_transformers(case, padded, monkeypatch):
    """They draw from numpy's global generator; here both draw from generators of one seed."""
    config = WhisperConfig(
        vocab_size=9, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, num_mel_bins=20,
        max_source_positions=50, max_target_positions=8, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, apply_spec_augment=True, **CASES[case],
    )  # fmt: skip
    model = WhisperModel(config).train()
    features = np.random.default_rng(0).standard_normal((4, 100, 20)).astype("float32")
    lengths = [100, 60, 9, 37] if padded else [100] * 4
    attention_mask = torch.tensor(np.arange(100) < np.array(lengths)[:, None]).long()
    generator = np.random.default_rng(5)
    monkeypatch.setattr(np.random, "rand", lambda count: generator.random(count))
    monkeypatch.setattr(np.random, "choice", generator.choice)
    expected = model._mask_input_features(
        torch.tensor(features.swapaxes(1, 2)), attention_mask if padded else None
    )
    monkeypatch.undo()
    masked = spec_augment(features, **CASES[case], lengths=lengths if padded else None, seed=5)
    # Of a recording that is shorter than a span, they mask the last frame of its padding.
    inside = attention_mask.numpy()[..., None]
    np.testing.assert_array_equal(masked * inside, expected.numpy().swapaxes(1, 2) * inside)
    assert (masked == 0).any()


def test_a_seed_and_a_generator():
    features = np.ones((2, 200, 8), "float32")
    first = spec_augment(features, seed=3)
    np.testing.assert_array_equal(first, spec_augment(features, seed=3))
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(first, spec_augment(features, seed=generator))
    assert (first != spec_augment(features, seed=generator)).any()
    assert features.all()  # not changed


def test_bad_arguments():
    features = np.ones((2, 20, 8), "float32")
    with pytest.raises(ValueError, match="from 1 to 20"):
        spec_augment(features, mask_time_length=21)
    with pytest.raises(ValueError, match="from 1 to 8"):
        spec_augment(features, mask_feature_prob=0.1, mask_feature_length=0)
    with pytest.raises(ValueError, match=r"\(batch, frames, mels\)"):
        spec_augment(features[0])
    with pytest.raises(ValueError, match="2 numbers of at most 20"):
        spec_augment(features, lengths=[3, 21])
