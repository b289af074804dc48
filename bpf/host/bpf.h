/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What TC and XDP programs have in common: maps, clocks, loops. Included by host/tc.h and host/xdp.h only. */
#ifndef CTD_HOST_BPF_H
#define CTD_HOST_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <ctd/abi/types.h>

#define host_htons bpf_htons
#define host_ntohs bpf_ntohs
#define host_htonl bpf_htonl
#define host_ntohl bpf_ntohl

#define CTD_MAP(map_name, map_type, key_t, value_t, entries, flags) \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_##map_type);              \
		__uint(max_entries, entries);                       \
		__uint(map_flags, flags);                           \
		__type(key, key_t);                                 \
		__type(value, value_t);                             \
	} map_name SEC(".maps")

#define CTD_RING(ring_name, bytes)                  \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_RINGBUF); \
		__uint(max_entries, bytes);         \
	} ring_name SEC(".maps")

#define map_lookup(map, key) bpf_map_lookup_elem(map, key)
#define map_update(map, key, value, flags) bpf_map_update_elem(map, key, value, flags)
#define map_delete(map, key) bpf_map_delete_elem(map, key)

/* What is reserved must be submitted. The reader is woken when it has read all that there was before. */
#define ring_reserve(ring, size) bpf_ringbuf_reserve(ring, size, 0)
#define ring_submit(record) bpf_ringbuf_submit(record, 0)

#define now_jiffies() bpf_jiffies64()
#define random32() bpf_get_prandom_u32()
#define this_cpu() bpf_get_smp_processor_id()
#define loop(n, fn, arg) bpf_loop(n, fn, arg, 0)
#define for_each_element(map, fn, arg) bpf_for_each_map_elem(map, fn, arg, 0)
#define csum_diff(from, from_size, to, to_size, seed) bpf_csum_diff(from, from_size, to, to_size, seed)

/* Keep LLVM from folding a bound that the verifier has to see. */
#define value_barrier(v) asm volatile("" : "+r"(v))
/*
 * x86 keeps the order of stores and of loads itself. Elsewhere: a fetching atomic, which the JIT emits with acquire and
 * release (a load with acquire of its own takes Linux 6.15).
 */
#ifdef CTD_STRONG_ORDER
#define mem_barrier() asm volatile("" ::: "memory")
#else
#define mem_barrier()                                        \
	({                                                   \
		u64 fence_ = 0;                              \
		fence_ = __sync_fetch_and_or(&fence_, 1);    \
		asm volatile("" : : "r"(fence_) : "memory"); \
	})
#endif
/* In a loop that waits for another CPU. */
#define cpu_relax() mem_barrier()

/* x86 and arm64 both order these for BPF: the JIT emits full barriers for the fetching forms. */
#define atomic_add(p, v) __sync_fetch_and_add(p, v)
#define atomic_cmpxchg(p, old, new) __sync_val_compare_and_swap(p, old, new)
#define atomic_xchg(p, v) __sync_lock_test_and_set(p, v)
#define atomic_or(p, v) __sync_fetch_and_or(p, v)
#define read_once(x) (*(volatile typeof(x) *)&(x))
#define write_once(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* A parameter that a callback's type demands. */
#define CTD_UNUSED __attribute__((unused))

/* A function that the verifier checks once, on its own. */
#define CTD_GLOBAL __attribute__((noinline))

#endif
