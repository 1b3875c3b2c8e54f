// SPDX-License-Identifier: BSL-1.0
// No memory at any moment: what was opened is closed.
#include "support/counting_new.hpp"
#include "support/folder.hpp"
#include "support/open_descriptors.hpp"

#include <tidegate/file.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <new>

namespace {

// Runs `use` without the first allocation, then without the second, and so on until it needs no
// more; how often it failed.
template <class Use>
std::size_t failures_that_leak_nothing(Use use) {
    std::size_t const before = test::open_descriptors();
    for (std::size_t n = 1;; ++n) {
        bool failed = false;
        test::fail_allocation(n);
        try {
            use();
        } catch (std::bad_alloc const&) {
            failed = true;
        }
        test::fail_allocation(0);
        INFO("allocation " << n);
        REQUIRE(test::open_descriptors() == before);
        if (!failed) return n - 1;
    }
}

} // namespace

TEST_CASE("a file that is opened or created while memory runs out does not stay open") {
    test::folder folder;
    auto const path = folder / "a name that is too long for a string to keep it in itself";
    std::ofstream(path) << "x";
    CHECK(failures_that_leak_nothing([&] { tidegate::detail::file_handle::open(path); }) > 0);
    CHECK(failures_that_leak_nothing([&] {
              tidegate::detail::replacement_file file;
              file.create(path);
          }) > 0);
    CHECK(folder.entries() == 1);
}
