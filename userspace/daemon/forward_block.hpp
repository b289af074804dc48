// SPDX-License-Identifier: Apache-2.0
// What keeps the host's stack from forwarding inside addresses untranslated once nobody translates them: a routing
// policy rule (`ip rule`) that prohibits what comes in by a device. What is for the host itself is decided before it.
#pragma once

#include <string>

#include <ctd/abi/types.h>

#include "lib/result.hpp"

namespace ctd {

// Adds the rule, or leaves the one that is there. In the calling thread's network namespace.
Result<> block_forwarding(const std::string& device, ctd_family family);

// Removes it; true if there was one.
Result<bool> unblock_forwarding(const std::string& device, ctd_family family);

}  // namespace ctd
