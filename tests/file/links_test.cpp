// SPDX-License-Identifier: BSL-1.0
// Where links lead what is written.
#include <tidegate/detail/file_handle.hpp>

#include "support/folder.hpp"

#include <catch2/catch_test_macros.hpp>

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

} // namespace

TEST_CASE("a link to nothing is followed to where the file is to be") {
    test::folder f;
    fs::create_directory(f / "data");
    fs::create_directory(f / "links");
    fs::create_symlink("../links/second", f / "links/first");
    fs::create_symlink(f / "data/file", f / "links/second");
    write(f / "links/first", "new");
    CHECK(fs::read_symlink(f / "links/first") == "../links/second");
    CHECK(fs::is_symlink(f / "links/second"));
    CHECK(get(f / "data/file") == "new");
    write(f / "links/first", "newer"); // now it leads to a file
    CHECK(fs::is_symlink(f / "links/first"));
    CHECK(get(f / "data/file") == "newer");
    CHECK(fs::is_regular_file(fs::symlink_status(f / "data/file")));
}

TEST_CASE("a link out of a folder that is one leads on from where that really is") {
    test::folder f;
    fs::create_directories(f / "real/inner");
    fs::create_directory_symlink("real/inner", f / "alias");
    fs::create_symlink("../file", f / "real/inner/link");
    write(f / "alias/link", "new");
    CHECK(get(f / "real/file") == "new");
    CHECK_FALSE(fs::exists(f / "file"));
}

TEST_CASE("links that lead nowhere are an error") {
    test::folder f;
    fs::create_symlink("round", f / "round");
    fs::create_symlink("missing/file", f / "far");
    CHECK_THROWS_AS(write(f / "round", "x"), tidegate::file_error);
    CHECK_THROWS_AS(write(f / "far", "x"), tidegate::file_error);
    CHECK(f.entries() == 2);
}
