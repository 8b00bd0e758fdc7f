# make env    .venv with every backend and what the tests need
# make demo   fine-tune a pretrained BERT on reviews (BACKEND=jax|torch|tensorflow)
# make quick  what must always work on every backend, then all tests but the slow ones on one
#             (QUICK=torch): under five minutes
# make test   the whole suite, in two processes of some 8 GB (WORKERS=n for n)
# make lint   style, imports, docstrings, types
# make types  mypy and basedpyright on the examples and on a file of user code
# make report docs/parity.md: how far each op is from float64, on each backend

PYTHON ?= python3
BACKEND ?= jax
WORKERS ?= 2
QUICK ?= torch
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The demo loads what it trained on a second backend too.
OTHER = $(if $(filter torch,$(BACKEND)),jax,torch)
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: env demo quick test lint types report bench clean

env: .venv/.env

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv .venv

# torch is installed by its exact version first: a range may bring gigabytes of CUDA libraries.
# timm, an oracle of the tests, would bring torchvision, which the tests do without.
# Where npm and its registry are to be had, exported models are run by TensorFlow.js as well.
.venv/.env: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e '.[jax,torch,tensorflow,demo,test]'
	$(PIP) --no-deps timm==$$(sed -n 's/^timm==//p' constraints.txt)
	-command -v npm && npm install --silent --prefix .venv @tensorflow/tfjs@4.22.0
	touch $@

.venv/.demo-$(BACKEND): pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e '.[$(BACKEND),$(OTHER),demo]'
	touch $@

demo: .venv/.demo-$(BACKEND)
	.venv/bin/python examples/fine_tune.py --backend $(BACKEND) --other $(OTHER)

quick: .venv/.env
	.venv/bin/python -m pytest tests/test_tiny.py
	KERASLITE_TEST_BACKENDS=$(QUICK) .venv/bin/python -m pytest tests -n $(WORKERS) \
		--dist worksteal -m "not slow" --ignore tests/test_tiny.py

# Two runs: frameworks keep what they allocated, so that a worker of one holds 12 GB in the end.
test: .venv/.env
	.venv/bin/python -m pytest tests/keraslite -n $(WORKERS) --dist worksteal --durations=25
	.venv/bin/python -m pytest tests --ignore tests/keraslite -n $(WORKERS) --dist worksteal \
		--durations=25

lint: types
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .

types: .venv/.env
	.venv/bin/python -m mypy
	.venv/bin/python -m basedpyright

report: .venv/.env
	.venv/bin/python scripts/parity_report.py

bench: .venv/.env
	for b in imports ops random attention build fit load save bert text diffusion; do .venv/bin/python scripts/bench/$$b.py || exit 1; done

clean:
	rm -rf .venv build *.egg-info
