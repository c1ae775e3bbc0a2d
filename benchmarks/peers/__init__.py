"""Other ways to send the same rows through vLLM, each in an environment of its own.

These scripts import nothing of spotmill: the environment they run in has none.
"""
