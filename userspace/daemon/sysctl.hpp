// SPDX-License-Identifier: Apache-2.0
// Values under /proc/sys. Those of net/ are the calling thread's network namespace's.
#pragma once

#include <string>

#include <ctd/abi/types.h>

#include "lib/result.hpp"

namespace ctd {

// `name` as below /proc/sys: "net/ipv4/ip_forward". Without the trailing newline. Errors keep the errno as code.
Result<std::string> read_sysctl(const std::string& name);
Result<> write_sysctl(const std::string& name, const std::string& value);

// Whether the host forwards at all. A kernel without IPv6 does not forward it.
Result<bool> global_forwarding(ctd_family family);

// Whether what arrives on `device` is forwarded. A device without the setting (no IPv6, no such device) does not
// forward: reading says no, switching it off is success.
Result<bool> get_forwarding(const std::string& device, ctd_family family);
Result<> set_forwarding(const std::string& device, ctd_family family, bool on);

}  // namespace ctd
