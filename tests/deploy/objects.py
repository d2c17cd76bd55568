"""Reads YAML documents from standard input and prints them as one JSON list. With --check, each must be a Kubernetes object
of a known kind that its schema allows, field by field; what is wrong is printed, a line for each, and the status is 1."""
import json
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.37"


class Strict(yaml.SafeLoader):
    """A key that stands twice is an error: the first would be lost."""


def mapping(loader, node):
    keys = [key.value for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"keys stand twice: {twice}", node.start_mark)
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def custom(kind, api_version):
    """The schema of a custom resource, if it is one."""
    file = Path(__file__).parent / "schemas" / f"{kind}.json"
    if not file.exists():
        return None
    definition = json.loads(file.read_text())
    group, _, version = api_version.rpartition("/")
    return strict(definition["versions"][version]) if group == definition["group"] and version in definition["versions"] else None


def strict(schema):
    """The API server drops fields that a schema does not name; here they are errors."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        # The whole object's metadata is Kubernetes' own.
        if schema.get("type") == "object" and schema["properties"].get("metadata") != {"type": "object"}:
            schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
        schema.pop("anyOf", None)
    return schema


def problems(it):
    if not isinstance(it, dict) or not {"kind", "apiVersion", "metadata"} <= it.keys():
        return [f"this is no object: {it!r}"]
    schema = custom(it["kind"], it["apiVersion"])
    if schema:
        validator = jsonschema.Draft7Validator(schema)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(it)]
    try:
        kubernetes_validate.validate(it, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return [f"unknown kind: {error}"]
    return []


objects = [document for document in yaml.load_all(sys.stdin, Strict) if document is not None]
wrong = []
if "--check" in sys.argv:
    for document in objects:
        name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}" if isinstance(document, dict) else "?"
        wrong += [f"{name}: {problem}" for problem in problems(document)]
print("\n".join(wrong) if wrong else json.dumps(objects))
sys.exit(bool(wrong))
