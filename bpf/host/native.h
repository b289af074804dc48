/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The core as part of a native program: unit tests, sanitizers, fuzzers, benchmarks. Packets, maps and helpers are
 * emulated by tests/native/, whose control side (time, faults, routes, running a packet) is tests/native/native.h.
 * C++ gets the types and functions; the vocabulary of the core is for C only.
 */
#ifndef CTD_HOST_NATIVE_H
#define CTD_HOST_NATIVE_H

#define CTD_HOST_NATIVE 1

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <ctd/abi/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the kernel knows of the packet's layer 4 checksum (skb->ip_summed). */
enum native_csum {
	NATIVE_CSUM_NONE,     /* nothing: the checksum in the packet is whole */
	NATIVE_CSUM_COMPLETE, /* `csum` is the device's sum over layer 3 and up, and must stay true */
	NATIVE_CSUM_PARTIAL,  /* the packet has the pseudo header's sum only; csum_start and csum_offset say where */
};

enum native_redirect_kind {
	NATIVE_REDIRECT_NONE,
	NATIVE_REDIRECT_OUT,
	NATIVE_REDIRECT_IN,
	NATIVE_REDIRECT_NEIGH,
};

/* Where a program sent the packet; counts when it answers TC_ACT_REDIRECT. */
struct native_redirect {
	enum native_redirect_kind kind;
	u32 ifindex;
	bool has_gateway; /* `gateway` was given to redirect_neigh */
	struct bpf_redir_neigh gateway;
};

/*
 * A packet, with what an skb says about it. The linear part and the rest are allocations of exactly their length, and
 * whatever invalidates packet pointers moves them: a stale pointer or a byte too far is found by the address sanitizer.
 */
struct native_packet {
	u8 *head;
	u8 *rest;
	u32 linear; /* bytes in `head` */
	u32 len;    /* in both */
	u32 mac_len;
	be16 protocol; /* behind the accelerated tag */
	bool vlan_present;
	u16 vlan_tci;
	be16 vlan_tpid;
	u32 ifindex;
	u32 ingress_ifindex;
	u32 mark;
	u32 priority;
	u32 gso_size;
	u32 cb[5];
	enum native_csum ip_summed;
	u32 csum;       /* NATIVE_CSUM_COMPLETE; as the kernel's skb->csum */
	u16 csum_start; /* from the packet's first byte */
	u16 csum_offset;
	struct native_redirect redirect;
};

typedef struct native_packet CTX;

static inline void *ctx_data(CTX *ctx)
{
	return ctx->head;
}

static inline void *ctx_data_end(CTX *ctx)
{
	return ctx->head + ctx->linear;
}

long native_pull(CTX *ctx, u32 len);
long native_load(CTX *ctx, u32 off, void *to, u32 len);
long native_store(CTX *ctx, u32 off, const void *from, u32 len);
long native_l4_csum(CTX *ctx, u32 off, u64 from, u64 to, u64 flags);
long native_change_head(CTX *ctx, u32 len);
long native_change_tail(CTX *ctx, u32 len);
long native_strip(CTX *ctx, u32 len);
long native_vlan_push(CTX *ctx, be16 tpid, u16 tci);
long native_vlan_pop(CTX *ctx);
long native_redirect_to(CTX *ctx, enum native_redirect_kind kind, u32 ifindex, const struct bpf_redir_neigh *gateway);
long native_fib_lookup(CTX *ctx, struct bpf_fib_lookup *fib, int len, u32 flags);
void native_tail_call(CTX *ctx, u32 stage);

/* A map: what CTD_MAP declares, and its storage. `max_entries` may be set before native_reset(). */
struct native_map {
	const char *name;
	enum bpf_map_type type;
	u32 key_size;
	u32 value_size;
	u32 declared; /* max_entries in the core */
	u32 flags;
	u32 max_entries;
	struct native_map *next;
	struct native_table *table;
};

void native_map_register(struct native_map *map);
void *native_map_lookup(struct native_map *map, const void *key);
long native_map_update(struct native_map *map, const void *key, const void *value, u64 flags);
long native_map_delete(struct native_map *map, const void *key);

/* Iteration over a hash in no particular order: starts with *at = 0, false at the end. */
bool native_map_next(struct native_map *map, u32 *at, const void **key, void **value);

/* A ring buffer to userspace: what CTD_RING declares, and its records. */
struct native_ring {
	const char *name;
	u32 bytes;
	struct native_ring *next;
	struct native_ring_state *state;
};

void native_ring_register(struct native_ring *ring);
void *native_ring_reserve(struct native_ring *ring, u32 size);
void native_ring_submit(void *record);

u64 native_jiffies(void);
u32 native_random32(void);
u32 native_this_cpu(void);
void native_relax(void);
s64 native_csum_diff(const be32 *from, u32 from_size, const be32 *to, u32 to_size, u32 seed);

#ifdef __cplusplus
}
/* The rest of the vocabulary is code in C: C++ that includes core/scratch.h gets its types only. */
#define CTD_HOST_H
#else

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define host_htons(x) ((be16)__builtin_bswap16((u16)(x)))
#define host_ntohs(x) ((u16)__builtin_bswap16((be16)(x)))
#define host_htonl(x) ((be32)__builtin_bswap32((u32)(x)))
#define host_ntohl(x) ((u32)__builtin_bswap32((be32)(x)))

#define CTX_OK TC_ACT_OK
#define CTX_DROP TC_ACT_SHOT

#define ctx_len(ctx) ((ctx)->len)
#define ctx_pull(ctx, bytes) native_pull(ctx, bytes)
#define ctx_load(ctx, off, to, bytes) native_load(ctx, off, to, bytes)
#define ctx_store(ctx, off, from, bytes) native_store(ctx, off, from, bytes)
#define ctx_l4_csum(ctx, off, from, to, how) native_l4_csum(ctx, off, from, to, how)

#define ctx_ifindex(ctx) ((ctx)->ifindex)
#define ctx_came_from(ctx) ((ctx)->ingress_ifindex)
#define ctx_gso_size(ctx) ((ctx)->gso_size)
#define ctx_mark(ctx) ((ctx)->mark)
#define ctx_priority(ctx) ((ctx)->priority)
#define ctx_protocol(ctx) ((ctx)->protocol)
#define ctx_vlan_present(ctx) ((ctx)->vlan_present)
#define ctx_vlan_tci(ctx) ((ctx)->vlan_tci)
#define ctx_vlan_tpid(ctx) ((ctx)->vlan_tpid)
#define ctx_vlan_push(ctx, tpid, tci) native_vlan_push(ctx, tpid, tci)
#define ctx_vlan_clear(ctx) native_vlan_pop(ctx)

#define ctx_change_head(ctx, bytes) native_change_head(ctx, bytes)
#define ctx_change_tail(ctx, bytes) native_change_tail(ctx, bytes)
#define ctx_strip(ctx, bytes) native_strip(ctx, bytes)

#define ctx_redirect(ctx, device) native_redirect_to(ctx, NATIVE_REDIRECT_OUT, device, NULL)
#define ctx_redirect_ingress(ctx, device) native_redirect_to(ctx, NATIVE_REDIRECT_IN, device, NULL)
#define ctx_redirect_neigh(ctx, device, nh, bytes) native_redirect_to(ctx, NATIVE_REDIRECT_NEIGH, device, nh)
#define ctx_fib_lookup(ctx, fib, bytes, how) native_fib_lookup(ctx, fib, bytes, how)

static __always_inline void ctx_token_set(CTX *ctx, u64 token)
{
	ctx->cb[0] = (u32)token;
	ctx->cb[1] = (u32)(token >> 32);
}

static __always_inline int ctx_token_ok(CTX *ctx, u64 token)
{
	return ctx->cb[0] == (u32)token && ctx->cb[1] == (u32)(token >> 32);
}

static __always_inline void ctx_token_clear(CTX *ctx)
{
	ctx->cb[0] = 0;
	ctx->cb[1] = 0;
}

static __always_inline int ctx_csum_partial(CTX *ctx)
{
	return ctx->ip_summed == NATIVE_CSUM_PARTIAL;
}

/* Does not come back unless the call fails, as in the kernel. */
#define ctx_tail_call(ctx, stage) native_tail_call(ctx, stage)

/* The map's global variable, and its entry in the list of maps. */
#define CTD_MAP(map_name, map_type, key_t, value_t, entries, map_flags)           \
	struct native_map map_name = {                                            \
		.name = #map_name,                                                \
		.type = BPF_MAP_TYPE_##map_type,                                  \
		.key_size = sizeof(key_t),                                        \
		.value_size = sizeof(value_t),                                    \
		.declared = entries,                                              \
		.flags = map_flags,                                               \
	};                                                                        \
	__attribute__((constructor)) static void native_register_##map_name(void) \
	{                                                                         \
		native_map_register(&map_name);                                   \
	}                                                                         \
	extern struct native_map map_name

#define CTD_RING(ring_name, size)                                                  \
	struct native_ring ring_name = {.name = #ring_name, .bytes = size};        \
	__attribute__((constructor)) static void native_register_##ring_name(void) \
	{                                                                          \
		native_ring_register(&ring_name);                                  \
	}                                                                          \
	extern struct native_ring ring_name

#define ring_reserve(ring, size) native_ring_reserve(ring, size)
#define ring_submit(record) native_ring_submit(record)

#define map_lookup(map, key) native_map_lookup(map, key)
#define map_update(map, key, value, how) native_map_update(map, key, value, how)
#define map_delete(map, key) native_map_delete(map, key)

#define now_jiffies() native_jiffies()
#define random32() native_random32()
#define this_cpu() native_this_cpu()
#define csum_diff(from, from_size, to, to_size, seed) native_csum_diff(from, from_size, to, to_size, seed)

/* bpf_loop(): rounds done, or -E2BIG (-7) beyond the kernel's limit. */
#define loop(n, fn, arg)                                         \
	({                                                       \
		u32 loop_n_ = (n), loop_i_ = 0;                  \
		void *loop_arg_ = (arg);                         \
		while (loop_i_ < loop_n_ && loop_n_ <= 1u << 23) \
			if (fn(loop_i_++, loop_arg_))            \
				break;                           \
		loop_n_ <= 1u << 23 ? (long)loop_i_ : -7L;       \
	})

#define for_each_element(map, fn, arg)                                            \
	({                                                                        \
		u32 each_at_ = 0;                                                 \
		const void *each_key_;                                            \
		void *each_value_;                                                \
		while (native_map_next(map, &each_at_, &each_key_, &each_value_)) \
			if (fn(map, each_key_, each_value_, arg))                 \
				break;                                            \
	})

#define value_barrier(v) __asm__ volatile("" : "+r"(v))
#define mem_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define cpu_relax() native_relax()

#define atomic_add(p, v) __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
#define atomic_or(p, v) __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)
#define atomic_xchg(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define atomic_cmpxchg(p, old, new) __sync_val_compare_and_swap(p, old, new)
/* The thread sanitizer takes volatile for a plain access; the core means one that may race, in x86's order. */
#define read_once(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define write_once(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)

/* Own frame, as the verifier's global functions have. */
#define CTD_GLOBAL __attribute__((noinline))
#define CTD_UNUSED __attribute__((unused))

#include "host/host.h"

#endif
#endif
