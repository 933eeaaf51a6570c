"""The command line: one file a command group, and the terminal view.

`tailrace.cli.main` imports nothing but click, so that ``--help`` is there at
once; everything else is imported by the command that needs it.
"""
