// SPDX-License-Identifier: Apache-2.0
// What World finds wrong fails the test that runs.
#include <gtest/gtest.h>

#include "core_world.hpp"

namespace ctd::test {

const bool complain_to_gtest = [] {
  World::complain = [](const std::string& what) { ADD_FAILURE() << what; };
  return true;
}();

}  // namespace ctd::test
