"""joulefloor: joules per component, workload and inference, against the Landauer floor."""

__version__ = "0.1.0"
