# SPDX-License-Identifier: BSL-1.0
"""Builds and runs a program against the package that `conan create` has just made."""
from pathlib import Path

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, cmake_layout


class TidegateTestConan(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps", "CMakeToolchain"

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires(self.tested_reference_str)

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        if can_run(self):
            for program in sorted(Path(self.build_folder, self.cpp.build.bindir).glob("guarded*")):
                if program.suffix in ("", ".exe"):
                    self.run(str(program), env="conanrun")
