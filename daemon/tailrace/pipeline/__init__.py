"""YAML to a typed pipeline with positions; JSON Schema; expressions; the plan of a run."""
