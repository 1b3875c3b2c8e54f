// SPDX-License-Identifier: BSL-1.0
// The main() of every scenario.
#include "bench.hpp"

int main(int argc, char** argv) { return bench::run_scenario(TIDEGATE_BENCH_SCENARIO, argc, argv); }
