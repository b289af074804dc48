// SPDX-License-Identifier: Apache-2.0
// What a rule matches: a value and a mask over the flow key, and its text as ovs-ofctl users write it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ctd/abi/key.h>

#include "daemon/rule_ports.hpp"
#include "lib/result.hpp"

namespace ctd {

// A field of a text: `tcp_dst=80` is {"tcp_dst", "80"}, the shorthand `tcp` is {"tcp", ""}.
using TextField = std::pair<std::string, std::string>;

// Invariant: value has no bit outside mask. Byte orders are those of struct ctd_flow_key.
struct Match {
  ctd_key_words value{};
  ctd_key_words mask{};

  bool matches(const ctd_key_words& key) const;
  // Every packet that `other` matches, this one matches too.
  bool covers(const Match& other) const;
  bool operator==(const Match& other) const;
};

// Parses fields in any order and checks that each field's prerequisites are there.
Result<Match> parse_match(const std::vector<TextField>& fields, const PortNames& ports);

// The text of a match, without spaces; empty if it matches everything. Parsing it gives the same match.
std::string format_match(const Match& match, const PortNames& ports);

// "+est+trk", "-new+trk": the bits of mask, in the order of their values. Shared with flow_format.
std::string format_ct_state(u8 value, u8 mask);
// "+syn-ack", for the bits of mask (host order); bits without a name make it "0x002/0xfff".
std::string format_tcp_flags(u16 value, u16 mask);

}  // namespace ctd
