# SPDX-License-Identifier: BSL-1.0
"""packages.py SOURCE: checks the form of the Conan recipe and of the vcpkg port, also where neither
tool is: that they agree with the library about its version, and with its includes about Boost."""
import importlib.util
import json
import re
import sys
import types
import unittest
from pathlib import Path

try:
    import jsonschema
except ImportError:
    jsonschema = None

source = Path(sys.argv.pop(1))
port = source / "packaging/vcpkg/ports/tidegate"


def library_version():
    header = (source / "include/tidegate/version.hpp").read_text()
    return re.search(r'TIDEGATE_VERSION_STRING "([^"]+)"', header).group(1)


def included_boost_libraries():
    """Those of the headers; what only tidegate::redis includes apart."""
    found = {False: set(), True: set()}
    for file in (source / "include").rglob("*.?pp"):
        libraries = re.findall(r"#include <boost/(\w+)", file.read_text())
        found["redis" in file.parts].update(libraries)
    version_header = {"version"}  # of Boost.Config
    return found[False] - version_header, found[True] - found[False] - version_header


class Options:
    """As much of Conan's options as the recipe uses."""

    def __init__(self, values):
        self.__dict__.update(values)

    def get_safe(self, name):
        return getattr(self, name, None)

    def rm_safe(self, name):
        self.__dict__.pop(name, None)


class Component:
    def __init__(self):
        self.properties, self.requires, self.libs = {}, [], []
        self.set_property = self.properties.__setitem__


class PackageInfo(Component):
    def __init__(self):
        super().__init__()
        self.components = {}
        outer = self.components

        class Made(dict):
            def __missing__(self, name):
                self[name] = Component()
                return self[name]

        self.components = Made(outer)


def load_recipe(path):
    """The recipe's class, on stand-ins for the modules of Conan."""
    for name in ("conan", "conan.tools", "conan.tools.build", "conan.tools.cmake", "conan.tools.files"):
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: type(attribute, (), {})
        sys.modules[name] = module
    spec = importlib.util.spec_from_file_location("recipe_" + path.parent.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(v for k, v in vars(module).items() if k.endswith("Conan"))


def made(**chosen):
    """A recipe that was configured with these options."""
    recipe = load_recipe(source / "conanfile.py")()
    recipe.recipe_folder = str(source)
    recipe.options = Options({**recipe.default_options, **chosen})
    recipe.settings = Options({"os": "Linux"})
    recipe.cpp_info = PackageInfo()
    recipe.required = {}
    recipe.requires = lambda reference, **traits: recipe.required.update({reference: traits})
    recipe.set_version()
    recipe.configure()
    recipe.requirements()
    recipe.package_info()
    return recipe


class Conan(unittest.TestCase):
    def test_the_version_is_the_library_s(self):
        self.assertEqual(made().version, library_version())

    def test_headers_only_are_the_default_and_one_package_for_all(self):
        recipe = made()
        self.assertEqual(recipe.package_type, "header-library")
        cleared = []
        recipe.info = types.SimpleNamespace(options=recipe.options, clear=lambda: cleared.append(True))
        recipe.package_id()
        self.assertTrue(cleared)
        self.assertEqual(set(recipe.cpp_info.components), {"tidegate", "testing"})
        self.assertTrue(all(not c.libs for c in recipe.cpp_info.components.values()))

    def test_the_compiled_package_depends_on_its_settings(self):
        recipe = made(header_only=False)
        cleared = []
        recipe.info = types.SimpleNamespace(options=recipe.options, clear=lambda: cleared.append(True))
        recipe.package_id()
        self.assertFalse(cleared)
        self.assertEqual(recipe.package_type, "static-library")
        self.assertEqual(made(header_only=False, shared=True).package_type, "shared-library")

    def test_its_targets_are_those_of_the_installed_tree(self):
        components = made(header_only=False, redis=True).cpp_info.components
        targets = {c.properties["cmake_target_name"] for c in components.values()}
        ours = set()
        for file in ("include/CMakeLists.txt", "src/CMakeLists.txt"):
            ours.update(re.findall(r"(tidegate::\w+) ALIAS", (source / file).read_text()))
        self.assertEqual(targets, ours)
        for component in components.values():
            for library in component.libs:
                self.assertRegex((source / "src/CMakeLists.txt").read_text()
                                 + (source / "include/CMakeLists.txt").read_text(),
                                 rf"add_library\({library}\b")

    def test_it_needs_the_headers_of_boost_and_openssl_for_redis_only(self):
        recipe = made()
        self.assertEqual([r.split("/")[0] for r in recipe.required], ["boost"])
        self.assertTrue(recipe.required["boost/1.88.0"]["transitive_headers"])
        self.assertEqual(recipe.cpp_info.components["tidegate"].requires, ["boost::headers"])
        recipe = made(header_only=False, redis=True)
        self.assertEqual([r.split("/")[0] for r in recipe.required], ["boost", "openssl"])

    def test_what_it_exports_is_there(self):
        recipe = load_recipe(source / "conanfile.py")
        for pattern in recipe.exports_sources:
            self.assertTrue(list(source.glob(pattern)), pattern)

    def test_the_options_that_it_sets_exist(self):
        text = (source / "conanfile.py").read_text()
        parts = re.search(r"for part in \((.*?)\)", text).group(1)
        options = ["TIDEGATE_" + part for part in re.findall(r'"(\w+)"', parts)]
        options += re.findall(r'cache_variables\["(\w+)"\]', text)
        for option in options:
            self.assertIn(f"option({option} ", (source / "CMakeLists.txt").read_text())

    def test_test_package_loads(self):
        self.assertTrue(load_recipe(source / "test_package/conanfile.py").generators)


class Vcpkg(unittest.TestCase):
    manifests = [port / "vcpkg.json", source / "vcpkg.json", source / "tests/consumers/vcpkg/vcpkg.json"]
    # The order in which `vcpkg format-manifest` writes the fields.
    fields = ["name", "version", "port-version", "maintainers", "summary", "description", "homepage",
              "documentation", "license", "supports", "builtin-baseline", "dependencies",
              "default-features", "features", "overrides"]

    def load(self, path):
        return json.loads(path.read_text())

    @unittest.skipUnless(jsonschema, "no python3-jsonschema")
    def test_manifests_keep_the_schema(self):
        schema = self.load(source / "tests/consumers/manifest.schema.json")
        for path in self.manifests:
            jsonschema.validate(self.load(path), schema)
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate({"name": "tidegate", "dependencies": ["Boost_Asio"]}, schema)

    def test_manifests_have_the_fields_and_the_form_that_vcpkg_writes(self):
        for path in self.manifests:
            manifest = self.load(path)
            self.assertEqual([f for f in self.fields if f in manifest], list(manifest), path)
            self.assertEqual(path.read_text(), json.dumps(manifest, indent=2) + "\n", path)
            parts = [manifest] + list(manifest.get("features", {}).values())
            for part in parts:
                names = [d if isinstance(d, str) else d["name"] for d in part.get("dependencies", [])]
                self.assertEqual(names, sorted(names), path)

    def test_versions_agree_with_the_library(self):
        version = library_version()
        self.assertEqual(self.load(port / "vcpkg.json")["version"], version)
        registry = source / "packaging/vcpkg/versions"
        self.assertEqual(self.load(registry / "baseline.json")["default"]["tidegate"]["baseline"], version)
        newest = self.load(registry / "t-/tidegate.json")["versions"][0]
        self.assertEqual(newest["version"], version)
        self.assertEqual(newest["path"], "$/ports/tidegate")
        self.assertEqual(source / "packaging/vcpkg" / newest["path"][2:], port)

    def test_the_manifests_depend_on_what_the_headers_include(self):
        headers, only_redis = included_boost_libraries()
        for path in (port / "vcpkg.json", source / "vcpkg.json"):
            manifest = self.load(path)
            named = {d for d in manifest["dependencies"] if isinstance(d, str)}
            redis = {d if isinstance(d, str) else d["name"]
                     for d in manifest["features"]["redis"]["dependencies"]}
            self.assertEqual({"boost-" + library.replace("_", "-") for library in headers}, named, path)
            self.assertEqual({"boost-" + library for library in only_redis}, redis - {"openssl"}, path)

    def test_the_port_s_features_and_options_are_those_of_the_build(self):
        text = (port / "portfile.cmake").read_text()
        build = (source / "CMakeLists.txt").read_text()
        for option in re.findall(r"TIDEGATE_\w+", text):
            self.assertIn(f"option({option} ", build)
        for feature in self.load(port / "vcpkg.json")["features"]:
            self.assertRegex(text, rf"\n +{feature} TIDEGATE_{feature.upper()}")

    def test_the_consumer_takes_the_registry_of_this_repository(self):
        folder = source / "tests/consumers/vcpkg"
        registry = self.load(folder / "vcpkg-configuration.json")["registries"][0]
        self.assertEqual((folder / registry["path"]).resolve(), (source / "packaging/vcpkg").resolve())


if __name__ == "__main__":
    unittest.main(verbosity=1)
