"""Models of the hub in the Trainer of transformers, as modules of torch."""

import numpy as np
import pytest
import torch
from backends import BACKENDS

import hub
import keraslite as keras

pytestmark = pytest.mark.skipif("torch" not in BACKENDS, reason="of torch alone")


class Classifier(torch.nn.Module):
    """A backbone and a head of torch, with the loss in its outputs as the Trainer wants it."""

    def __init__(self):
        super().__init__()
        self.backbone = hub.BertBackbone(
            9, 1, 2, hidden_dim=8, intermediate_dim=8, dropout=0.0, max_sequence_length=8
        )
        self.head = torch.nn.Linear(8, 2)

    def forward(self, token_ids, labels):
        inputs = {
            "token_ids": token_ids,
            "padding_mask": token_ids.new_ones(token_ids.shape),
            "segment_ids": torch.zeros_like(token_ids),
        }
        logits = self.head(self.backbone(inputs)["pooled_output"])
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_backbone_is_trained_and_saved_by_the_trainer_of_transformers(tmp_path):
    from transformers import Trainer, TrainingArguments

    rows = [{"token_ids": torch.tensor([1, 2 + i, 5, 6]), "labels": i % 2} for i in range(4)]
    batch = {k: torch.tensor(np.stack([row[k] for row in rows])) for k in rows[0]}
    with keras.use_backend("torch"):
        keras.utils.set_random_seed(0)
        torch.manual_seed(0)
        model = Classifier()
        expected = Classifier()
        expected.load_state_dict(model.state_dict())
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, learning_rate=0.1, report_to=[],
        optim="sgd", lr_scheduler_type="constant", use_cpu=True, save_strategy="no",
        disable_tqdm=True, max_grad_norm=0, logging_steps=1,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    optimizer, losses = torch.optim.SGD(expected.parameters(), 0.1), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = expected(**batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    np.testing.assert_allclose(logged, losses, atol=2e-4)  # it rounds what it logs
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    trainer.save_model(str(tmp_path / "saved"))
    from safetensors.torch import load_file

    files = list((tmp_path / "saved").glob("*.safetensors"))
    assert set(load_file(files[0])) == set(model.state_dict())
