// SPDX-License-Identifier: BSL-1.0
// Under which names files are written.
#include <tidegate/detail/file_handle.hpp>

#include "support/folder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace fs = std::filesystem;

namespace {

void write(fs::path const& path, std::string_view bytes) {
    tidegate::detail::replacement_file file;
    file.create(path);
    file.file().write_all(bytes);
    file.replace(true);
}

std::string get(fs::path const& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// What the temporary file beside `path` is called.
std::string temporary_beside(test::folder const& f, fs::path const& path) {
    tidegate::detail::replacement_file file;
    file.create(path);
    return fs::directory_iterator(f.path())->path().filename().string();
}

} // namespace

TEST_CASE("a name may be as long as the system allows") {
    test::folder f;
    for (std::size_t const size : {1u, 99u, 100u, 101u, 233u, 234u, 255u}) {
        std::string const name(size, 'n');
        write(f / name.c_str(), name);
        CHECK(get(f / name.c_str()) == name);
    }
    CHECK(f.entries() == 7);
}

TEST_CASE("a temporary file is named after the one that it is to be, and never in half letters") {
    test::folder f;
    CHECK(temporary_beside(f, f / "name").starts_with(".name."));
    for (std::size_t const before : {97u, 98u, 99u, 100u}) {
        std::string const name = std::string(before, 'n') + "\u20ac" + std::string(50, 'n');
        std::string const temporary = temporary_beside(f, f / name.c_str());
        std::string const kept = before == 97 ? "\u20ac." : ".";
        CHECK(temporary.starts_with("." + std::string(before, 'n') + kept));
        CHECK(temporary.ends_with(".tmp"));
    }
    CHECK(f.entries() == 0);
}
