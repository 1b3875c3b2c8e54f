// SPDX-License-Identifier: BSL-1.0
// Breaks the rule of layer 1 on purpose.
#pragma once

#include <boost/asio/post.hpp>
