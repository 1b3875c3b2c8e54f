// SPDX-License-Identifier: BSL-1.0
// Latencies of two threads, read while they record.
#include <tidegate/latency_recorder.hpp>

#include <chrono>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

int main() {
    //! [record]
    tidegate::latency_recorder latencies;
    auto record = [&] {
        for (int i = 1; i <= 1000; ++i) latencies.record(i * 1us);
    };
    std::thread other(record); // any thread
    record();
    other.join();
    auto const all = latencies.snapshot(); // at any time
    std::cout << all.count() << " recorded, p99 " << all.percentile(0.99) / 1000 << " us\n";
    //! [record]
    return all.count() == 2000 ? 0 : 1;
}
