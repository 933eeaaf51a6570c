"""The JSON Schema (2020-12) of pipeline files, for editors."""

from __future__ import annotations

from typing import Any

from tailrace.pipeline.build import ACTIONS
from tailrace.pipeline.keys import PIPELINE, STEP, STEP_ID


def pipeline_schema() -> dict[str, Any]:
    """Return the schema that `tailrace schema` prints.

    It knows every key, its type and what it means. What needs the whole file
    (needs, cycles, names in expressions) only the loader can tell. Where text
    is expected it takes numbers and booleans, because that is how an editor
    reads ``3.10`` and ``no``.
    """
    schema = PIPELINE.schema()
    step = STEP.schema()
    step["type"] = "object"
    step["oneOf"] = [{"required": [action]} for action in ACTIONS]
    steps = schema["properties"]["steps"]
    steps["patternProperties"] = {f"^{STEP_ID}$": {"$ref": "#/$defs/step"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tailrace pipeline",
        **{key: value for key, value in schema.items() if key != "title"},
        "$defs": {"step": step},
    }
