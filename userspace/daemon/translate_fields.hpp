// SPDX-License-Identifier: Apache-2.0
// The flow key as the fields that translation looks at one by one.
#pragma once

#include <span>

#include <ctd/abi/key.h>

namespace ctd {

struct KeyField {
  u16 offset;  // bytes into struct ctd_flow_key
  u16 size;
  bool layer4;  // has a meaning only for one ip_proto
};

// All of them, in the order in which they are used to tell packets apart: those that a flow matches anyway first, then
// from the port inwards through the layers.
std::span<const KeyField> key_fields();

// Fields that ct_clear empties.
void clear_ct_fields(ctd_flow_key& key);

}  // namespace ctd
