"""Other ways to send the same rows through vLLM, each in an environment of its own.

They import nothing of spotmill but each other: the environment they run in has none of it.
"""
