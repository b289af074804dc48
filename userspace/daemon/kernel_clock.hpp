// SPDX-License-Identifier: Apache-2.0
// The kernel's jiffies, read by two-instruction BPF programs: no other interface gives them, and the datapath stamps
// everything in them.
#pragma once

#include <ctd/abi/types.h>

#include "daemon/fd.hpp"
#include "lib/result.hpp"

namespace ctd {

class JiffiesClock {
 public:
  static Result<JiffiesClock> open();

  // get_jiffies_64().
  Result<u64> now() const;

  // Jiffies a second, measured (takes about 100 ms): the kernel's HZ is 100, 250, 300 or 1000.
  Result<u32> measure_hz() const;

 private:
  JiffiesClock(Fd low, Fd high) : low_(std::move(low)), high_(std::move(high)) {}

  Fd low_;   // program that returns the low word
  Fd high_;  // and the high one
};

}  // namespace ctd
