"""A scripted agent: reviews a change as an agent would, by rules and without a model.

It is what the pipeline `agent-review` runs where nobody has chosen another
one, so that the pipeline, and what people see of it, can be tried everywhere.
"""
