/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Timeouts in jiffies by protocol and state. The defaults meet RFC 4787, RFC 5382 and RFC 5508 (see the ABI header). */
#ifndef CTD_CT_TIMEOUT_H
#define CTD_CT_TIMEOUT_H

#include "core/config.h"
#include "core/hash.h"

#define CTD_TIMEOUT_ICMP_S 60
#define CTD_TIMEOUT_GENERIC_S 600

static __always_inline u32 timeout_of(u8 proto, u8 state)
{
	u32 s = CTD_TIMEOUT_GENERIC_S;

	if (proto == IPPROTO_TCP) {
		switch (state) {
#define X(name, timeout_s)     \
	case CTD_TCP_##name:   \
		s = timeout_s; \
		break;
			CTD_TCP_STATES(X)
#undef X
		}
	} else if (proto_is_icmp(proto)) {
		s = CTD_TIMEOUT_ICMP_S;
	} else if (proto == IPPROTO_UDP) {
		switch (state) {
#define X(name, timeout_s)     \
	case CTD_OTHER_##name: \
		s = timeout_s; \
		break;
			CTD_OTHER_STATES(X)
#undef X
		}
	}
	return s * ctd_config.hz;
}

#endif
