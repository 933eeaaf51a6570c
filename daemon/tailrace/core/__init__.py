"""Rules without I/O: no asyncio, clock, files or sockets in here.

Time, randomness and the environment are arguments. Nothing in this package
imports anything of ours outside it; ``tests/test_house.py`` asserts that.
"""
