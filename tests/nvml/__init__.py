"""A scripted NVIDIA driver: a C library that the unmodified binding loads, and what scripts it."""
