"""The program that talks to NVIDIA's driver, in a process of its own.

`python -m joulefloor.nvml` is started by `sources/nvml.py`, answers its requests with frames, and
is the only code that imports pynvml. It may keep what needs history inside one round or between
two rounds: the mean of power, intervals of activity, integrated operations.
"""
