"""Tailrace for AI agents: the Model Context Protocol, over stdio and over the daemon's HTTP.

Only `tailrace.mcp.server` needs the official SDK, the extra ``mcp``; it is
imported by whoever is asked for the protocol, and by nobody before.
"""
