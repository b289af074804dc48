// SPDX-License-Identifier: Apache-2.0
// A packet source for BPF_PROG_TEST_RUN with live frames, and the sinks that count what arrives.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bench_flood.h"

#define PAYLOAD_BYTES 18
#define UDP_BYTES (sizeof(struct udphdr) + PAYLOAD_BYTES)

// 60 bytes, 64 on a wire.
struct frame {
  struct ethhdr eth;
  struct iphdr ip;
  struct udphdr udp;
  __u8 payload[PAYLOAD_BYTES];
} __attribute__((packed));

struct flow {
  __be32 client;
  __be32 server;
  __be16 sport;  // the client's
};

// The only global: libbpf 1.1 orders .bss by first use.
struct flood_state flood;

static __always_inline struct flow flow_at(__u32 index) {
  const struct flood_config* config = &flood.config;

  return (struct flow){
      .client = bpf_htonl(bpf_ntohl(config->client_net_be32) + 1 + index % FLOOD_CLIENTS),
      .server = bpf_htonl(bpf_ntohl(config->server_net_be32) + 1 + index % FLOOD_SERVERS),
      .sport = bpf_htons(FLOOD_FIRST_SPORT + index / FLOOD_SERVERS),
  };
}

// The flow that a server and a client's port name; see bench_flood.h.
static __always_inline __u32 index_of(__be32 server, __be16 sport) {
  __u32 host = bpf_ntohl(server) - bpf_ntohl(flood.config.server_net_be32) - 1;

  return (bpf_ntohs(sport) - FLOOD_FIRST_SPORT) * FLOOD_SERVERS + host;
}

static __always_inline __u32 next_index(void) {
  struct flood_config* config = &flood.config;
  __u32 cursor = config->cursor;
  __u32 next = cursor + config->stride;

  config->cursor = next >= config->flows ? next - config->flows : next;
  return config->first + cursor;
}

static __always_inline __u16 fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u64 sum_words(const void* data, __u32 bytes) {
  const __u16* words = data;
  __u64 sum = 0;

#pragma unroll
  for (__u32 i = 0; i < bytes / 2; i++) sum += words[i];
  return sum;
}

static __always_inline __u64 pseudo_header_sum(__be32 saddr, __be32 daddr) {
  return (__u64)saddr + daddr + bpf_htons(IPPROTO_UDP) + bpf_htons(UDP_BYTES);
}

// Live frames come back as the path left them, so everything is written each time.
static __always_inline void write_frame(struct frame* frame, __be32 saddr, __be32 daddr, __be16 sport, __be16 dport) {
  __builtin_memcpy(frame->eth.h_dest, flood.config.port_mac, ETH_ALEN);
  __builtin_memcpy(frame->eth.h_source, flood.config.sender_mac, ETH_ALEN);
  frame->eth.h_proto = bpf_htons(ETH_P_IP);
  frame->ip = (struct iphdr){
      .version = 4,
      .ihl = 5,
      .tot_len = bpf_htons(sizeof(struct iphdr) + UDP_BYTES),
      .frag_off = bpf_htons(0x4000),  // do not fragment
      .ttl = 64,
      .protocol = IPPROTO_UDP,
      .saddr = saddr,
      .daddr = daddr,
  };
  frame->udp = (struct udphdr){.source = sport, .dest = dport, .len = bpf_htons(UDP_BYTES)};
  __builtin_memset(frame->payload, 0, PAYLOAD_BYTES);

  frame->ip.check = ~fold(sum_words(&frame->ip, sizeof(frame->ip)));
  __u16 check = ~fold(pseudo_header_sum(saddr, daddr) + sum_words(&frame->udp, sizeof(frame->udp)));
  frame->udp.check = check ? check : 0xffff;
}

SEC("xdp")
int flood_generate(struct xdp_md* ctx) {
  struct frame* frame = (void*)(long)ctx->data;

  if ((void*)(frame + 1) > (void*)(long)ctx->data_end) return XDP_ABORTED;

  struct flow flow = flow_at(next_index());
  __be32 translated = flood.config.translated_be32;
  __be16 dport = bpf_htons(FLOOD_DPORT);

  if (flood.config.reply)
    write_frame(frame, flow.server, translated ? translated : flow.client, dport, flow.sport);
  else
    write_frame(frame, flow.client, flow.server, flow.sport, dport);
  return XDP_PASS;  // received by the device that the test run names
}

struct syn_frame {
  struct ethhdr eth;
  struct iphdr ip;
  struct tcphdr tcp;
} __attribute__((packed));

// SYNs to one host, from random addresses and ports: 1.0.0.0 to 9.255.255.255, where nobody of the lab is.
SEC("xdp")
int flood_siege(struct xdp_md* ctx) {
  struct syn_frame* frame = (void*)(long)ctx->data;

  if ((void*)(frame + 1) > (void*)(long)ctx->data_end) return XDP_ABORTED;
  __u32 random = bpf_get_prandom_u32(), ports = bpf_get_prandom_u32();

  __builtin_memcpy(frame->eth.h_dest, flood.config.port_mac, ETH_ALEN);
  __builtin_memcpy(frame->eth.h_source, flood.config.sender_mac, ETH_ALEN);
  frame->eth.h_proto = bpf_htons(ETH_P_IP);
  frame->ip = (struct iphdr){
      .version = 4,
      .ihl = 5,
      .tot_len = bpf_htons(sizeof(struct iphdr) + sizeof(struct tcphdr)),
      .frag_off = bpf_htons(0x4000),
      .ttl = 64,
      .protocol = IPPROTO_TCP,
      .saddr = bpf_htonl((1 + random % 9) << 24 | random >> 8),
      .daddr = flood.config.target_be32,
  };
  frame->tcp = (struct tcphdr){.source = (__u16)ports, .dest = (__u16)(ports >> 16), .doff = 5, .syn = 1};
  frame->tcp.window = bpf_htons(64240);
  frame->ip.check = ~fold(sum_words(&frame->ip, sizeof(frame->ip)));
  __u64 pseudo = (__u64)frame->ip.saddr + frame->ip.daddr + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(struct tcphdr));
  frame->tcp.check = ~fold(pseudo + sum_words(&frame->tcp, sizeof(frame->tcp)));
  return XDP_PASS;
}

// On a device of the gateway that is nobody's port: the same flood, dropped at ingress.
SEC("tc")
int flood_repel(struct __sk_buff* skb __attribute__((unused))) { return TC_ACT_SHOT; }

static __always_inline int checksums_hold(const struct frame* frame) {
  __u64 udp = pseudo_header_sum(frame->ip.saddr, frame->ip.daddr) + sum_words(&frame->udp, sizeof(frame->udp)) +
              sum_words(frame->payload, sizeof(frame->payload));

  return fold(sum_words(&frame->ip, sizeof(frame->ip))) == 0xffff && fold(udp) == 0xffff && frame->udp.check;
}

static __always_inline int addresses_hold(const struct frame* frame, int at_server) {
  __be32 server = at_server ? frame->ip.daddr : frame->ip.saddr;
  __be32 client = at_server ? frame->ip.saddr : frame->ip.daddr;
  __be16 sport = at_server ? frame->udp.source : frame->udp.dest;
  __be16 dport = at_server ? frame->udp.dest : frame->udp.source;
  __u32 index = index_of(server, sport);
  const struct flood_config* config = &flood.config;

  if (dport != bpf_htons(FLOOD_DPORT) || index - config->first >= config->flows) return 0;
  if (at_server && config->translated_be32) return client == config->translated_be32;
  return client == flow_at(index).client;
}

static __always_inline void count(struct flood_sink* sink, void* data, void* data_end, int at_server) {
  const struct frame* frame = data;

  if ((const void*)(frame + 1) > data_end || frame->eth.h_proto != bpf_htons(ETH_P_IP) ||
      frame->ip.protocol != IPPROTO_UDP) {
    sink->foreign++;
    return;
  }
  sink->received++;
  if (!flood.config.check) return;
  if (!checksums_hold(frame)) sink->bad_checksum++;
  if (!addresses_hold(frame, at_server)) sink->bad_address++;
}

SEC("xdp")
int flood_sink_server(struct xdp_md* ctx) {
  count(&flood.at_server, (void*)(long)ctx->data, (void*)(long)ctx->data_end, 1);
  return XDP_DROP;
}

SEC("xdp")
int flood_sink_client(struct xdp_md* ctx) {
  count(&flood.at_client, (void*)(long)ctx->data, (void*)(long)ctx->data_end, 0);
  return XDP_DROP;
}

// On the gateway's own ports: receive and drop, the floor under every path.
SEC("tc")
int flood_sink_port(struct __sk_buff* skb) {
  struct flood_sink* sink = flood.config.reply ? &flood.at_client : &flood.at_server;

  count(sink, (void*)(long)skb->data, (void*)(long)skb->data_end, !flood.config.reply);
  return TC_ACT_SHOT;
}

char flood_license[] SEC("license") = "Apache-2.0";
