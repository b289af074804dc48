// SPDX-License-Identifier: Apache-2.0
// What the flood's BPF side and its C++ side share: the flows and the counters.
//
// Flow i is client i % FLOOD_CLIENTS talking to server i % FLOOD_SERVERS from the source port
// FLOOD_FIRST_SPORT + i / FLOOD_SERVERS, so that (source port, server) names the flow also after the
// source address was translated: every port can be preserved, whatever the number of flows.
#pragma once

#include <linux/types.h>

enum {
  FLOOD_CLIENTS = 250,
  FLOOD_SERVERS = 1000,
  FLOOD_FIRST_SPORT = 10000,
  FLOOD_DPORT = 5000,
  FLOOD_MAX_FLOWS = 50 * 1000 * 1000,  // source ports end at 60,000
};

// Network byte order where named be; written by userspace before a run.
struct flood_config {
  __u8 port_mac[6];    // of the gateway's port that receives
  __u8 sender_mac[6];  // of that port's neighbour
  __u16 reply;         // 0: client to server, else server to client
  __u16 check;         // sinks look at every packet: checksums and addresses
  __u32 client_net_be32;
  __u32 server_net_be32;
  __u32 translated_be32;  // source as the servers see it, 0: the client's own
  __u32 flows;            // cycle through flows [first, first + flows)
  __u32 first;
  __u32 stride;       // step through them, coprime to their number
  __u32 cursor;       // the next flow, less first; advanced by the generator
  __u32 target_be32;  // of the siege: whom its SYNs are for
};

// One sink each direction. Written by that sink only, which one NAPI instance runs.
struct flood_sink {
  __u64 received;
  __u64 bad_checksum;
  __u64 bad_address;
  __u64 foreign;  // not of the flood, such as a solicitation
};

struct flood_state {
  struct flood_config config;
  struct flood_sink at_server;
  struct flood_sink at_client;
};
