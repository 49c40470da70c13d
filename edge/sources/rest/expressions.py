"""JMESPath: the one place that knows the library."""

from __future__ import annotations

from typing import Annotated, Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from pydantic import AfterValidator

_FUNCTIONS: Final = frozenset(Functions.FUNCTION_TABLE)
_SHOWN: Final = 100


class Expression:
    """A compiled expression; raises ValueError for one that cannot be."""

    def __init__(self, text: str) -> None:
        try:
            self._compiled = jmespath.compile(text)
            # The library itself looks at the names of functions only when they are called.
            unknown = sorted(_functions_in(self._compiled.parsed) - _FUNCTIONS)
        except (JMESPathError, RecursionError) as exc:
            raise ValueError(f"{text[:_SHOWN]!r} is no JMESPath: {' '.join(str(exc).split())}") from exc
        if unknown:
            raise ValueError(f"{text!r}: no function {', '.join(unknown)}; there are {', '.join(sorted(_FUNCTIONS))}")

    def of(self, document: object) -> object:
        """What the expression finds in a document; None for nothing, ValueError for values of the wrong type."""
        try:
            found: object = self._compiled.search(document)
        except (JMESPathError, TypeError, AttributeError, RecursionError) as exc:
            # The library's functions trust the types inside of lists and objects; what a server sends has any.
            raise ValueError(" ".join(str(exc).split())) from exc
        return found


def _functions_in(node: Any) -> set[str]:  # noqa: ANN401 - the library's tree of dictionaries
    below = set().union(*(_functions_in(child) for child in node["children"]))
    return below | {node["value"]} if node["type"] == "function_expression" else below


def _checked(text: str) -> str:
    Expression(text)
    return text


JmesPath = Annotated[str, AfterValidator(_checked)]
