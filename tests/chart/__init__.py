"""Tests of the Helm chart with the real helm, both majors, as a folder and as a package."""
