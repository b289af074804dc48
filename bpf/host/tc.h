/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The core as TC programs (BPF_PROG_TYPE_SCHED_CLS): the datapath. */
#ifndef CTD_HOST_TC_H
#define CTD_HOST_TC_H

#define CTD_HOST_TC 1
#include "host/bpf.h"

typedef struct __sk_buff CTX;

#define CTX_OK TC_ACT_OK
#define CTX_DROP TC_ACT_SHOT

#define ctx_data(ctx) ((void *)(long)(ctx)->data)
#define ctx_data_end(ctx) ((void *)(long)(ctx)->data_end)
#define ctx_len(ctx) ((ctx)->len)
#define ctx_pull(ctx, len) bpf_skb_pull_data(ctx, len)
#define ctx_load(ctx, off, to, len) bpf_skb_load_bytes(ctx, off, to, len)
#define ctx_store(ctx, off, from, len) bpf_skb_store_bytes(ctx, off, from, len, 0)
#define ctx_l4_csum(ctx, off, from, to, flags) bpf_l4_csum_replace(ctx, off, from, to, flags)

#define ctx_ifindex(ctx) ((ctx)->ifindex)
#define ctx_came_from(ctx) ((ctx)->ingress_ifindex)
#define ctx_gso_size(ctx) ((ctx)->gso_size)
#define ctx_mark(ctx) ((ctx)->mark)
#define ctx_priority(ctx) ((ctx)->priority)
#define ctx_protocol(ctx) ((be16)(ctx)->protocol)
#define ctx_vlan_present(ctx) ((ctx)->vlan_present)
#define ctx_vlan_tci(ctx) ((ctx)->vlan_tci)
#define ctx_vlan_tpid(ctx) ((be16)(ctx)->vlan_proto)
#define ctx_vlan_push(ctx, tpid, tci) bpf_skb_vlan_push(ctx, tpid, tci)
#define ctx_vlan_clear(ctx) bpf_skb_vlan_pop(ctx)

#define ctx_change_head(ctx, len) bpf_skb_change_head(ctx, len, 0)
#define ctx_change_tail(ctx, len) bpf_skb_change_tail(ctx, len, 0)
#define ctx_strip(ctx, len) \
	bpf_skb_adjust_room(ctx, -(s32)(len), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

#define ctx_redirect(ctx, ifindex) bpf_redirect(ifindex, 0)
#define ctx_redirect_ingress(ctx, ifindex) bpf_redirect(ifindex, BPF_F_INGRESS)
#define ctx_redirect_neigh(ctx, ifindex, nh, len) bpf_redirect_neigh(ifindex, nh, len, 0)
#define ctx_fib_lookup(ctx, fib, len, flags) bpf_fib_lookup(ctx, fib, len, flags)

/*
 * The token lives in the skb's control block: it is not on the wire, survives redirects and the neighbour's queue, and
 * every layer of the stack that uses the block clears it. The instance's 64-bit secret keeps others from making one.
 */
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

/* Is the layer 4 checksum still to be finished by the device? The uapi context does not say; the kernel's skb does. */
struct sk_buff {
	u8 ip_summed : 2;
} __attribute__((preserve_access_index));
#define CHECKSUM_PARTIAL 3

static __always_inline int ctx_csum_partial(CTX *ctx)
{
	struct sk_buff *skb = (void *)ctx;

	return BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) == CHECKSUM_PARTIAL;
}

#define ctx_tail_call(ctx, stage) bpf_tail_call(ctx, &stages, stage)

#include "host/host.h"

#endif
