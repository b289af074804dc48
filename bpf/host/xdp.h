/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The core as XDP programs: so far the parser and the connection look-up. What XDP lacks has no name here. */
#ifndef CTD_HOST_XDP_H
#define CTD_HOST_XDP_H

#define CTD_HOST_XDP 1
#include "host/bpf.h"

typedef struct xdp_md CTX;

#define CTX_OK XDP_PASS
#define CTX_DROP XDP_DROP

#define ctx_data(ctx) ((void *)(long)(ctx)->data)
#define ctx_data_end(ctx) ((void *)(long)(ctx)->data_end)
#define ctx_len(ctx) ((u32)((ctx)->data_end - (ctx)->data))
#define ctx_pull(ctx, len) 0 /* always linear as far as headers go */
#define ctx_load(ctx, off, to, len) bpf_xdp_load_bytes(ctx, off, to, len)
#define ctx_store(ctx, off, from, len) bpf_xdp_store_bytes(ctx, off, from, len)

#define ctx_ifindex(ctx) ((ctx)->ingress_ifindex)
#define ctx_gso_size(ctx) 0     /* segments are made and merged behind XDP */
#define ctx_protocol(ctx) 0     /* every XDP device has an Ethernet header */
#define ctx_vlan_present(ctx) 0 /* tags are inline */
#define ctx_vlan_tci(ctx) 0
#define ctx_vlan_tpid(ctx) 0

#include "host/host.h"

#endif
