// SPDX-License-Identifier: BSL-1.0
// Stands in for Boost.Asio where no Boost is installed.
#pragma once
