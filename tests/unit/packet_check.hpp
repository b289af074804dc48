// SPDX-License-Identifier: Apache-2.0
// An independent look at packets that leave: nothing of the core is used here.
#pragma once

#include <string>

#include "packet_builder.hpp"

namespace ctd::test {

// What a receiver would find wrong with lengths and checksums, the ones quoted in ICMP errors included;
// empty if all is right. Of a partial packet, layer 4 must hold the pseudo header's sum at csum_start + csum_offset.
std::string wrong_with(const Packet& packet);

// The addresses and ports of a packet in one line, for comparisons: "tcp 10.1.0.2:40000 > 10.0.2.2:80",
// "icmp 8/0 id 77 10.1.0.2 > 10.0.2.2"; of an ICMP error also the quoted packet: "icmp 3/1 a > b [udp c:1 > d:2]".
std::string line_of(const Packet& packet);

}  // namespace ctd::test
