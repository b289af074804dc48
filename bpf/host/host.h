/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The vocabulary of the datapath core. Core headers include this file; the file that is compiled has chosen a host
 * before, by including one of host/tc.h, host/xdp.h or host/native.h first.
 *
 * A host provides
 *   CTX                                        the packet's type
 *   ctx_data, ctx_data_end, ctx_len            direct access: linear part, and the packet's whole length
 *   ctx_pull(ctx, len)                         make the first `len` bytes linear; pointers become invalid
 *   ctx_load, ctx_store                        copy from and to any offset; ctx_store invalidates pointers
 *   ctx_l4_csum(ctx, off, from, to, flags)     as bpf_l4_csum_replace: knows partial checksums; invalidates pointers
 *   ctx_ifindex, ctx_gso_size, ctx_vlan_*, ctx_mark, ctx_priority, ctx_came_from
 *   ctx_csum_partial                           the layer 4 checksum is still to be finished by a device
 *   ctx_token_set, ctx_token_ok, _clear        our mark on a packet that meets one of our hooks again
 *   ctx_redirect, ctx_redirect_ingress, ctx_redirect_neigh, ctx_fib_lookup
 *   ctx_change_head, ctx_change_tail, ctx_strip (remove bytes after the Ethernet header), ctx_vlan_push, ctx_vlan_clear
 *   ctx_tail_call(ctx, stage)
 *   CTX_OK, CTX_DROP                           verdicts of a program
 * and maps: CTD_MAP(), map_lookup, map_update, map_delete; rings to userspace: CTD_RING(), ring_reserve (NULL when it
 * is full), ring_submit; clocks: now_jiffies(); random32(), loop(), csum_diff(), cpu_relax() while waiting for another
 * CPU.
 */
#ifndef CTD_HOST_H
#define CTD_HOST_H

#if !defined(CTD_HOST_TC) && !defined(CTD_HOST_XDP) && !defined(CTD_HOST_NATIVE)
#error "include host/tc.h, host/xdp.h or host/native.h before any header of the core"
#endif

#include <ctd/abi/types.h>

#ifndef NULL
#define NULL ((void *)0)
#endif

/* Headers are looked for in the first bytes of a packet only. */
#define CTX_MAX_HEADER 1023u

/* A pointer to `len` bytes at `off`, or NULL where the linear part ends before. */
static __always_inline void *ctx_at(CTX *ctx, u32 off, u32 len)
{
	void *data = ctx_data(ctx);
	void *end = ctx_data_end(ctx);

	if (off > CTX_MAX_HEADER)
		return NULL;
	data += off;
	if (data + len > end)
		return NULL;
	return data;
}

#endif
