"""Lets commands share options: a parameter that is a dataclass becomes one option for each of its fields."""

from __future__ import annotations

import functools
import inspect
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer can read it, with the fields in place of the dataclasses."""
    own = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: one.annotation for name, one in own.parameters.items() if is_dataclass(one.annotation)
    }
    plain = [one for name, one in own.parameters.items() if name not in groups]
    shared = [option for group in groups.values() for option in _options_of(group)]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        made = {}
        for name, group in groups.items():
            made[name] = group(**{one.name: values.pop(one.name) for one in fields(group)})
        command(**values, **made)

    signature = own.replace(parameters=[one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*plain, *shared)])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    return run


def _options_of(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(group)
    ]
