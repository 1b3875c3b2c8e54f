// SPDX-License-Identifier: BSL-1.0
// What is private is so from the moment that the file is there.
#include <tidegate/detail/file_handle.hpp>

#include "support/folder.hpp"
#include "support/sanitized.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdarg>
#include <filesystem>
#include <fstream>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace {
int created_with = -1; // the mode that the last temporary file was created with
} // namespace

// In front of libc's. A sanitizer has its own, of which there can be only one.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define TIDEGATE_TEST_SANITIZED
#endif
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TIDEGATE_TEST_SANITIZED
#endif
#if !defined(TIDEGATE_TEST_SANITIZED)
extern "C" int open(char const* path, int flags, ...) {
    int mode = 0;
    if (flags & O_CREAT) {
        std::va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, int);
        va_end(rest);
        if (std::string_view(path).ends_with(".tmp")) created_with = mode;
    }
    return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
#endif

TEST_CASE("what takes the place of a private file is private before it has any permissions") {
    test::folder f;
    for (int const mode : {0600, 0640, 0644, 0400}) {
        fs::path const path = f / "file";
        fs::remove(path);
        std::ofstream(path) << "old";
        fs::permissions(path, fs::perms(mode));
        created_with = -1;
        tidegate::detail::replacement_file file;
        file.create(path);
        if (!test::sanitized) CHECK(created_with == 0600);
        file.file().write_all(std::string_view("new"));
        file.replace(false);
        CHECK(fs::status(path).permissions() == fs::perms(mode));
    }
    struct ::stat status{};
    ::mode_t const mask = ::umask(027);
    tidegate::detail::replacement_file file;
    file.create(f / "another");
    file.replace(false);
    ::umask(mask);
    REQUIRE(::stat((f / "another").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0640); // as whoever runs this wants files to be
}
