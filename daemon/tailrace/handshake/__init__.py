"""Asks an MCP server whether it is there: the process that starts it, greets it, and ends it."""
