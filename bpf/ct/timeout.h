/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Timeouts in jiffies by policy, protocol and state. The defaults stand with the states in the ABI header. */
#ifndef CTD_CT_TIMEOUT_H
#define CTD_CT_TIMEOUT_H

#include "core/config.h"
#include "core/hash.h"
#include "core/maps.h"

static __always_inline u32 timeout_base(u8 proto)
{
	switch (proto) {
		case IPPROTO_TCP:
			return CTD_TIMEOUT_TCP;
		case IPPROTO_UDP:
			return CTD_TIMEOUT_UDP;
		case IPPROTO_UDPLITE:
			return CTD_TIMEOUT_UDPLITE;
		case IPPROTO_ICMP:
			return CTD_TIMEOUT_ICMP;
		case IPPROTO_ICMPV6:
			return CTD_TIMEOUT_ICMPV6;
		case IPPROTO_GRE:
			return CTD_TIMEOUT_GRE;
		case IPPROTO_SCTP:
			return CTD_TIMEOUT_SCTP;
		case IPPROTO_DCCP:
			return CTD_TIMEOUT_DCCP;
	}
	return CTD_TIMEOUT_GENERIC;
}

/* What a connection's policy says. Policy 0 is filled in by the daemon from its configuration and the defaults. */
static __always_inline u32 timeout_of(u32 policy, u8 proto, u8 state)
{
	u32 slot = timeout_base(proto) + state, zero = 0, s = 0;
	struct ctd_ct_policy *p = map_lookup(&ct_policies, &policy);

	value_barrier(slot); /* else the bound is folded away where the state is a constant */
	slot &= CTD_TIMEOUT_COUNT - 1;
	if (p)
		s = p->timeout_s[slot];
	if (!s) {
		p = map_lookup(&ct_policies, &zero);
		if (p)
			s = p->timeout_s[slot];
	}
	return s * ctd_config.hz;
}

#endif
