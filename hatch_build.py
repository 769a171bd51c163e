"""The build hook: compiles the sandbox's static programs into the wheel, so that users of a wheel compile nothing."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "src/hostler/sandbox/native/build.py"
TARGET = "hostler/sandbox/bin"


def _builder(root: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostler_native_build", Path(root) / SOURCES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface[Any]):
    """Linux only: elsewhere the wheel is pure and the embedded sandbox is not offered."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for `ziglang` only where the machine's own compiler will not do."""
        if sys.platform != "linux" or self.target_name != "wheel":
            return []
        builder = _builder(self.root)
        needed = any(builder.stale(name) for name in builder.PROGRAMS)
        return ["ziglang"] if needed and builder.system_compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the platform in the wheel's tag: the programs are static, so any Linux of the machine."""
        if sys.platform != "linux" or self.target_name != "wheel":
            return
        binaries = _builder(self.root).build()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
        if version != "editable":
            build_data["force_include"].update({str(path): f"{TARGET}/{path.name}" for path in binaries})
