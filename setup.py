"""A wheel carries the compiled eBPF programs; all else about it is in pyproject.toml."""

from __future__ import annotations

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

OBJECTS = Path("dvipad") / "adapters" / "bpf" / "objects"


class BuildWithObjects(build_py):
    """Compiles the eBPF programs into the package; an editable install uses `build/bpf`."""

    def run(self) -> None:
        """Copy the modules, then compile beside them."""
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib).absolute() / OBJECTS
            subprocess.run(["make", "--silent", "-C", "bpf", f"BUILD={folder}"], check=True)


class Compiled(Distribution):
    """The objects hold the byte order of the machine that they are compiled on."""

    def has_ext_modules(self) -> bool:
        """True: a wheel for this platform."""
        return True


setup(cmdclass={"build_py": BuildWithObjects}, distclass=Compiled)
