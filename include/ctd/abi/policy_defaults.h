/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The default timeouts as a policy: for whoever fills entry 0 of map `ct_policies`. */
#ifndef CTD_ABI_POLICY_DEFAULTS_H
#define CTD_ABI_POLICY_DEFAULTS_H

#include <ctd/abi/ct.h>

/* Fills all timeouts of `policy`: ctd's own, or (`like_linux`) those of nf_conntrack. Nothing else of it is changed. */
static inline void ctd_ct_policy_defaults(struct ctd_ct_policy *policy, int like_linux)
{
#define X(name, own_s, linux_s) \
	policy->timeout_s[(u32)CTD_TIMEOUT_TCP + CTD_TCP_##name] = like_linux ? (linux_s) : (own_s);
	CTD_TCP_STATES(X)
#undef X
#define X(name, own_s, linux_s) \
	policy->timeout_s[(u32)CTD_TIMEOUT_SCTP + CTD_SCTP_##name] = like_linux ? (linux_s) : (own_s);
	CTD_SCTP_STATES(X)
#undef X
#define X(name, own_s, linux_s) \
	policy->timeout_s[(u32)CTD_TIMEOUT_DCCP + CTD_DCCP_##name] = like_linux ? (linux_s) : (own_s);
	CTD_DCCP_STATES(X)
#undef X
#define X(base, name, own_s, own_replied_s, linux_s, linux_replied_s)                                        \
	policy->timeout_s[(u32)CTD_TIMEOUT_##base + CTD_OTHER_UNREPLIED] = like_linux ? (linux_s) : (own_s); \
	policy->timeout_s[(u32)CTD_TIMEOUT_##base + CTD_OTHER_REPLIED] =                                     \
		like_linux ? (linux_replied_s) : (own_replied_s);
	CTD_OTHER_TIMEOUTS(X)
#undef X
	policy->timeout_s[CTD_TIMEOUT_TCP_RETRANS] = CTD_TCP_RETRANS_S;
	policy->timeout_s[CTD_TIMEOUT_TCP_UNACK] = CTD_TCP_UNACK_S;
}

#endif
