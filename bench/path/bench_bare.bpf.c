// SPDX-License-Identifier: Apache-2.0
// The least that a TC datapath can do: rewrite the Ethernet addresses and redirect.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bench_bare.h"

const volatile struct bare_config bare_config;

SEC("tc")
int bare_redirect(struct __sk_buff* skb) {
  const volatile struct bare_hop* hop = &bare_config.to_lan;
  struct ethhdr* eth = (void*)(long)skb->data;

  if ((void*)(eth + 1) > (void*)(long)skb->data_end || eth->h_proto != bpf_htons(ETH_P_IP)) return TC_ACT_OK;
  if (skb->ifindex == bare_config.lan_ifindex) hop = &bare_config.to_wan;
  __builtin_memcpy(eth->h_dest, (const void*)hop->dest, ETH_ALEN);
  __builtin_memcpy(eth->h_source, (const void*)hop->source, ETH_ALEN);
  return (int)bpf_redirect(hop->ifindex, 0);
}

char bare_license[] SEC("license") = "Apache-2.0";
