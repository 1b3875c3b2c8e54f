// SPDX-License-Identifier: BSL-1.0
// The folder of real models, photos and videos, and the reference detections in it.
#pragma once

#include "detection.hpp"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

// $TIDEGATE_REAL_DATA, or shared/real beside the checkout; empty where neither is there.
std::filesystem::path real_data();

// Skips the test case, and says so, where the folder is absent.
#define NEEDS_REAL_DATA()                                                                          \
    do {                                                                                           \
        if (real_data().empty()) {                                                                 \
            SKIP("no real data: set TIDEGATE_REAL_DATA or put it at ../shared/real");              \
        }                                                                                          \
    } while (false)

using boxes = std::vector<vision::detection>;

// From reference/NAME: by image name, or by frame number written as text.
std::map<std::string, boxes> reference(const std::string& name);

// How `found` differs from `expected`, in words; empty where every box over 0.4 on either side has
// a partner of its class on the other with IoU >= `iou` and a score within `score`.
std::string difference(const boxes& expected, const boxes& found, float iou = 0.98F,
                       float score = 0.01F);
