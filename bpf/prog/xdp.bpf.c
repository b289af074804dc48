// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The core in XDP, as far as it goes today: finds a packet's connection and lets it pass. It shows that parser and
 * table are one code for both hosts; the fast path follows.
 */
#include "host/xdp.h"

#include "core/parse.h"
#include "ct/table.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What the last packet on a CPU was: read by the test. */
struct xdp_result {
	u32 reason;    /* enum ctd_drop_reason of the parser */
	u32 conn;      /* CTD_CONN_NONE: not found */
	u32 dir;       /* enum ctd_dir, if found */
	u32 ct_status; /* enum ctd_status, if found */
};
CTD_MAP(xdp_results, PERCPU_ARRAY, u32, struct xdp_result, 1, 0);

SEC("xdp")
int ctd_xdp_find(struct xdp_md *ctx)
{
	struct scratch *s = scratch_get();
	struct xdp_result *result;
	struct found f = {};
	u32 zero = 0;

	result = map_lookup(&xdp_results, &zero);
	if (!s || !result)
		return XDP_ABORTED;
	s->pkt.flags = 0;
	s->pkt.l2_len = sizeof(struct ethhdr);
	result->conn = CTD_CONN_NONE;
	result->reason = (u32)parse(ctx, &s->pkt);
	if (!result->reason && s->pkt.flags & PACKET_IP && !s->pkt.frag && conn_find(&s->pkt.tuple, &f) && !f.dead) {
		result->conn = f.id;
		result->dir = f.dir;
		result->ct_status = f.conn->status;
	}
	return XDP_PASS;
}
