# SPDX-License-Identifier: BSL-1.0
"""The Conan 2 recipe: headers only unless header_only=False."""
import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, rmdir


class TidegateConan(ConanFile):
    name = "tidegate"
    description = "Coroutine-aware performance and resilience primitives for Boost.Asio"
    license = "BSL-1.0"
    homepage = "https://github.com/tidegate/tidegate"
    url = homepage
    topics = ("asio", "coroutines", "resilience", "rate-limiter", "circuit-breaker", "cache")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "header_only": [True, False],
        "shared": [True, False],
        "fPIC": [True, False],
        "redis": [True, False],
    }
    default_options = {"header_only": True, "shared": False, "fPIC": True, "redis": False}
    exports_sources = "CMakeLists.txt", "LICENSE", "cmake/*", "include/*", "src/*"

    def set_version(self):
        header = Path(self.recipe_folder, "include/tidegate/version.hpp").read_text()
        self.version = re.search(r'TIDEGATE_VERSION_STRING "([^"]+)"', header).group(1)

    def configure(self):
        if self.options.header_only:
            self.package_type = "header-library"
            # tidegate::redis is a library: it takes header_only=False.
            for name in ("shared", "fPIC", "redis"):
                self.options.rm_safe(name)
        elif self.options.shared or self.settings.os == "Windows":
            self.package_type = "shared-library" if self.options.shared else "static-library"
            self.options.rm_safe("fPIC")
        else:
            self.package_type = "static-library"

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires("boost/1.88.0", transitive_headers=True, options={"header_only": True})
        if self.options.get_safe("redis"):
            self.requires("openssl/[>=1.1 <4]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        if self.info.options.header_only:
            self.info.clear()

    def generate(self):
        toolchain = CMakeToolchain(self)
        compiled = not self.options.header_only
        toolchain.cache_variables["TIDEGATE_COMPILED"] = compiled
        toolchain.cache_variables["TIDEGATE_REDIS"] = bool(self.options.get_safe("redis"))
        for part in ("TESTS", "EXAMPLES", "VISION", "BENCHMARKS", "LINT"):
            toolchain.cache_variables[f"TIDEGATE_{part}"] = False
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, str(Path(self.package_folder, "licenses")))
        CMake(self).install()
        # Conan makes these itself, for every build system and with the same target names.
        rmdir(self, str(Path(self.package_folder, "lib", "cmake")))
        rmdir(self, str(Path(self.package_folder, "lib", "pkgconfig")))
        rmdir(self, str(Path(self.package_folder, "share")))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "tidegate")
        headers = self.cpp_info.components["tidegate"]
        headers.set_property("cmake_target_name", "tidegate::tidegate")
        headers.set_property("pkg_config_name", "tidegate")
        headers.requires = ["boost::headers"]
        headers.bindirs = headers.libdirs = []
        if self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            headers.system_libs = ["pthread"]
        self._add_component("testing")
        if self.options.header_only:
            return
        self._add_component("compiled", "tidegate_compiled")
        self.cpp_info.components["compiled"].defines = ["TIDEGATE_SEPARATE_COMPILATION"]
        if self.settings.os == "Linux":
            self._add_component("blocking_guard", "tidegate_blocking_guard")
            self.cpp_info.components["blocking_guard"].system_libs = ["dl"]
        if self.options.redis:
            self._add_component("redis", "tidegate_redis")
            self.cpp_info.components["redis"].requires.append("openssl::openssl")

    def _add_component(self, name, library=None):
        component = self.cpp_info.components[name]
        component.set_property("cmake_target_name", f"tidegate::{name}")
        component.set_property("pkg_config_name", f"tidegate-{name}")
        component.requires = ["tidegate"]
        component.libs = [library] if library else []
        component.bindirs = []
        if not library:
            component.libdirs = []
