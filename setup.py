"""The folder losses/ is installed as vocoders.losses; all else about the build is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

losses = [f"vocoders.{name}" for name in find_namespace_packages(include=["losses*"])]
setup(
    packages=[*find_namespace_packages(include=["vocoders*"]), *losses],
    package_dir={"vocoders.losses": "losses"},
)
