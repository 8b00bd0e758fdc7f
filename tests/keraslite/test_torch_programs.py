"""Layers in programs of torch's world, as modules like any other; what torch does is the oracle."""

import copy
import gc
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from backends import BACKENDS

import keraslite as keras
from keraslite import layers

pytestmark = pytest.mark.skipif("torch" not in BACKENDS, reason="of torch alone")
RNG = np.random.default_rng(0)
X = torch.tensor(RNG.normal(size=(8, 4)), dtype=torch.float32)
Y = X.sum(1, keepdim=True)


@pytest.fixture(autouse=True)
def _on_torch():
    with keras.use_backend("torch"):
        yield


class Stack(keras.Model):
    """Layers in a list, in a dict, and a weight that is torch's."""

    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, "tanh"), layers.Dropout(0.5)]
        self.by_name = {"norm": layers.BatchNormalization()}
        self.scale = torch.nn.Parameter(torch.full((4,), 2.0))
        self.last = layers.Dense(1)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(self.by_name["norm"](x) * self.scale)


class Network(torch.nn.Module):
    """A module of torch around layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4, "tanh"), torch.nn.Linear(4, 1)
        self.first(X)

    def forward(self, x):
        return self.second(self.first(x))


def stack():
    model = Stack()
    model(X)
    return model


def loss_of(module, x=X, y=Y):
    return torch.nn.functional.mse_loss(module(x), y)


def test_names_have_no_dots_and_every_member_is_there_by_its_name():
    model = stack()
    assert [name for name, _ in model.named_children()] == [
        "blocks_0", "blocks_1", "by_name_norm", "last",
    ]  # fmt: skip
    for name, module in model.named_modules():
        assert model.get_submodule(name) is module
    for name, parameter in model.named_parameters():
        assert model.get_parameter(name) is parameter
    for name, buffer in model.named_buffers():
        assert model.get_buffer(name) is buffer
    with pytest.raises(AttributeError, match="has no 'blocks_0.gamma'"):
        model.get_parameter("blocks_0.gamma")
    with pytest.raises(AttributeError, match="blocks_7"):
        _ = model.blocks_7
    assert len(model.trainable_variables) == 7
    loss_of(model).backward()
    assert model.get_parameter("scale").grad is not None


def test_functional_call_and_export_of_layers_in_lists():
    model = stack()
    expected = model(X)
    ones = {name: torch.ones_like(x) for name, x in model.state_dict().items()}
    changed = torch.func.functional_call(model, ones, (X,))
    torch.testing.assert_close(model(X), expected)
    exported = torch.export.export(torch.nn.Sequential(model, torch.nn.Tanh()), (X,))
    torch.testing.assert_close(exported.module()(X), expected.tanh())
    model.load_state_dict(ones)
    torch.testing.assert_close(model(X), changed)


def test_state_dicts_are_assigned_and_those_with_dots_are_read():
    model, other = stack(), stack()
    state = {name: x.clone() for name, x in model.state_dict().items()}
    assert other.load_state_dict(state, assign=True)
    kernel = other.blocks[0].kernel
    assert other.get_parameter("blocks_0.kernel").data_ptr() == state["blocks_0.kernel"].data_ptr()
    assert any(kernel is v for v in other.trainable_variables)
    torch.testing.assert_close(other(X), model(X))
    dotted = {
        name.replace("blocks_", "blocks.").replace("by_name_", "by_name."): x + 1
        for name, x in state.items()
    }
    assert other.load_state_dict(dotted)
    torch.testing.assert_close(kernel.value, dotted["blocks.0.kernel"])
    with pytest.raises(RuntimeError, match=r"Missing.*last.bias.*\n.*Unexpected.*blocks_0.b"):
        other.load_state_dict(
            {("blocks_0.b" if name == "last.bias" else name): x for name, x in state.items()}
        )


def masked(head):
    return keras.Sequential([layers.Embedding(5, 3, mask_zero=True), head])


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: layers.Masking(), torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])),
        (lambda: layers.Embedding(4, 2, mask_zero=True), torch.tensor([[1, 0, 3]])),
        (lambda: masked(layers.LSTM(2)), torch.tensor([[1, 2, 0], [3, 0, 0]])),
        (lambda: masked(layers.GlobalAveragePooling1D()), torch.tensor([[1, 2, 0], [3, 0, 0]])),
    ],
)
def test_masks_in_compiled_functions(make, x):
    layer = make()
    expected = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for _ in range(2):
        out = compiled(x)
        torch.testing.assert_close(out, expected)
        masks = [keras.masking.get_mask(v) for v in (out, expected)]
        assert (masks[0] is None) == (masks[1] is None)
        assert masks[0] is None or masks[0].equal(masks[1])


def test_a_model_with_losses_may_die_while_another_is_compiled():
    def penalized():
        return keras.Sequential([layers.Dense(3, activity_regularizer="l2")])

    others, model, x = [penalized()], penalized(), torch.ones(2, 4)
    others[0](x)
    expected = model(x), model.losses[0]

    def backend(graph_module, _):
        others.clear()
        gc.collect()
        return graph_module.forward

    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for _ in range(2):
        torch.testing.assert_close((compiled(x), *model.losses), expected)
    assert len(copy.deepcopy(model)(x)) == 2 and not others


@torch.no_grad()
def test_masks_go_into_and_out_of_compiled_functions():
    embedding, recurrent = layers.Embedding(5, 3, mask_zero=True), layers.GRU(2)
    x = torch.tensor([[1, 2, 0], [3, 0, 0]])
    expected = recurrent(embedding(x))
    compiled = torch.compile(recurrent, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(embedding(x)), expected)
    longer = torch.tensor([[1, 2, 0, 0], [3, 1, 1, 0]])  # whose length is a symbol
    torch.testing.assert_close(compiled(embedding(longer)), recurrent(embedding(longer)))
    compiled = torch.compile(embedding, fullgraph=True, backend="eager")
    torch.testing.assert_close(recurrent(compiled(x)), expected)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_fused_optimizers_of_torch_are_noticed_by_copies_of_weights(name):
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(),
         layers.Dense(512), layers.Dense(512)]
    )  # fmt: skip
    model.replays_predict = True
    model.compile("sgd", "mse")
    x = RNG.normal(size=(4, 6, 6, 3)).astype("float32")
    for _ in range(4):
        before = model.predict_on_batch(x)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, fused=True)
    model(torch.from_numpy(x), training=True).square().mean().backward()
    optimizer.step()
    expected = model(torch.from_numpy(x), training=False).detach().numpy()
    assert abs(expected - before).max() > 1e-3
    np.testing.assert_allclose(model.predict_on_batch(x), expected, 1e-4, 1e-5)


PROCESSES = """
import sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import keraslite as keras
from keraslite import layers
rank, port = int(sys.argv[1]), sys.argv[2]
keras.use_backend("torch")

def network():
    keras.utils.set_random_seed(1)
    module = torch.nn.Sequential(layers.Dense(8, "tanh"), layers.LayerNormalization(), layers.Dense(1))
    module(torch.ones(1, 4))
    return module

def train(module, x, y):
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)

x = torch.linspace(-1, 1, 32).reshape(8, 4)
y = x.sum(1, keepdim=True)
one = network()
expected = train(one, x, y)
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
part = slice(4 * rank, 4 * rank + 4)
parallel = torch.nn.parallel.DistributedDataParallel(network())
sharded = network()
for layer in sharded:
    fully_shard(layer)
fully_shard(sharded)
whole = sum(p.numel() for p in one.parameters())
local = sum(p.to_local().numel() for p in sharded.parameters())
assert local < 0.7 * whole, (local, whole)
for module in (parallel, sharded):
    losses = train(module, x[part], y[part])
    dist.all_reduce(losses)
    torch.testing.assert_close(losses / 2, expected, rtol=1e-5, atol=1e-6)
torch.testing.assert_close(parallel.module[0].kernel.value, one[0].kernel.value)
full = sharded[0].kernel.value.full_tensor()
torch.testing.assert_close(full, one[0].kernel.value)
dist.destroy_process_group()
print("equal", losses.tolist())
"""


def test_ddp_and_fsdp_in_two_processes_give_the_losses_of_one(tmp_path):
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    del store
    script = tmp_path / "train.py"
    script.write_text(PROCESSES)
    runs = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [run.communicate(timeout=120) for run in runs]
    assert all(run.returncode == 0 for run in runs), "\n".join(e[-3000:] for _, e in outputs)
    assert outputs[0][0] == outputs[1][0] != ""


def plain_losses(steps=3):
    """The losses of a loop of torch's own."""
    keras.utils.set_random_seed(2)
    module = Network()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(module)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_accelerate_prepares_and_steps():
    from accelerate import Accelerator

    expected = plain_losses()
    keras.utils.set_random_seed(2)
    accelerator = Accelerator(cpu=True)
    module = Network()
    module, optimizer = accelerator.prepare(module, torch.optim.SGD(module.parameters(), 0.1))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(module)
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_peft_adapts_a_linear_layer_beside_layers():
    from peft import LoraConfig, get_peft_model

    module = Network()
    expected = module(X)
    adapted = get_peft_model(
        module, LoraConfig(r=2, target_modules=["second"], modules_to_save=["first"])
    )
    torch.testing.assert_close(adapted(X), expected)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], 0.1)
    first = loss_of(adapted)
    first.backward()
    optimizer.step()
    assert loss_of(adapted) < first
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert {name.split(".")[-2] for name in names} == {"default"}  # of LoRA, and of the copy
    saved = adapted.base_model.model.first.modules_to_save["default"]
    original = adapted.base_model.model.first.original_module
    assert not saved.kernel.value.equal(original.kernel.value)


def test_lightning_trains_a_module_around_layers():
    import pytorch_lightning as lightning

    expected = plain_losses()

    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.seen = Network(), []

        def training_step(self, batch, index):
            loss = loss_of(self.network, *batch)
            self.seen.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    keras.utils.set_random_seed(2)
    lit = Lit()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(
            max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=True,
        ).fit(lit, loader)  # fmt: skip
    np.testing.assert_allclose(lit.seen, expected, rtol=1e-6)
