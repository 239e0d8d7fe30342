"""Parses YAML into a tree of mappings, lists and text, to which core.decode gives types."""

from typing import Any

import yaml

from openegress.core.errors import invalid


class _TextLoader(yaml.SafeLoader):
    """A SafeLoader that understands null and merge keys, and leaves all other scalars as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own shape
        first: [resolver for resolver in resolvers if resolver[0].endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(text: str) -> dict[str, Any]:
    """The document's mapping; {} for an empty one. Raises EgressError with the line of the mistake."""
    try:
        tree = yaml.load(text, Loader=_TextLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise invalid(f"{line}not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise invalid(f"not YAML: {type(error).__name__}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise invalid("the configuration is a mapping of keys to values, as in reference.yaml")
    return tree
