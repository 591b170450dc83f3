"""Parts of one's own: a law, an actuator, a task or a tracker that a configuration names by its import path.

    law: {type: custom, import_path: my_package.my_module:MyLaw, gain: 3}

The class is a subclass of the part's base; the other keys are its own fields.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, SerializerFunctionWrapHandler, WrapSerializer, WrapValidator

from .configuration import ConfigT, parse
from .errors import InputError, one_line

CUSTOM = "custom"
Base = TypeVar("Base")


def imported(path: object, base: type[Base]) -> type[Base]:
    """The class that `package.module:Class` names.
    Raises InputError: there is none, it is no subclass of `base`, or it lacks methods.
    """
    module, _, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not (module and name):
        raise InputError(f"`import_path` is {path!r}; write `package.module:Class`.")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the user's module raises
        reason = one_line(f"{type(error).__name__}: {error}")
        raise InputError(
            f"`import_path` {path} cannot be imported ({reason}); write the "
            "`package.module:Class` of a module that is installed, or lies where the command runs."
        ) from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(f"`import_path` {path} is no subclass of {base.__name__}; derive it from that class.")
    if inspect.isabstract(found):
        missing = ", ".join(f"`{name}`" for name in sorted(getattr(found, "__abstractmethods__", ())))
        raise InputError(f"`import_path` {path} lacks methods of {base.__name__}; write {missing}.")
    return found


def custom(base: type[ConfigT], kind: str = "") -> tuple[WrapValidator, WrapSerializer]:
    """Lets a field of several kinds take a class of the user's own as well, and writes it back as it was given.

    Args:
        kind: the `type` of a mapping that names none.
    """

    def read(content: Any, known: Callable[[Any], Any]) -> Any:
        if _own(content, base):
            return content
        if not (isinstance(content, Mapping) and content.get("type", kind) == CUSTOM):
            return known(content)
        options = {key: value for key, value in content.items() if key not in ("type", "import_path")}
        return parse(imported(content.get("import_path"), base), options, source=str(content.get("import_path")))

    def write(part: Any, known: SerializerFunctionWrapHandler) -> Any:
        if not _own(part, base):
            return known(part)
        return {"type": CUSTOM, "import_path": _path(part)} | {
            key: value for key, value in part.model_dump(mode="json").items() if key != "type"
        }

    return WrapValidator(read), WrapSerializer(write)


def identity(part: Any, base: type[BaseModel]) -> str:
    """The `type` by which a configuration names a part, or the import path of a class of the user's own."""
    return _path(part) if _own(part, base) else str(part.type)


def _path(part: object) -> str:
    return f"{type(part).__module__}:{type(part).__qualname__}"


def _own(part: Any, base: type[BaseModel]) -> bool:
    """Whether `part` is an instance of a class of the user's own: one that lives in another package."""
    package = base.__module__.split(".")[0]
    return isinstance(part, base) and type(part).__module__.split(".")[0] != package
