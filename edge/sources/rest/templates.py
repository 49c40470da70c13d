"""Templates such as `/stations/{station}`: names in braces, and nothing else, are replaced."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME: Final = re.compile(r"\{([a-z_]+)\}")


def names_in(templates: Iterable[str]) -> set[str]:
    """The variables that templates use."""
    return {name for template in templates for name in _NAME.findall(template)}


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its variables replaced."""
    return _NAME.sub(lambda found: values[found[1]], template)


def fill_path(template: str, values: Mapping[str, str]) -> str:
    """The same for the path of a URL: no value can leave its segment."""
    # A dot alone or two would be a step in the path.
    return _NAME.sub(lambda found: quote(values[found[1]], safe="").replace(".", "%2E"), template)
