"""Looks whether this machine can do what its pipelines ask for, and says what to do about it."""
