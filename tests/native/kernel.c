// SPDX-License-Identifier: Apache-2.0
/* The emulated kernel beside packets and maps: CPUs, clock, random numbers, checksums, routes, redirects. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "native/internal.h"
#include "native/native.h"

#define MAX_ROUTES 64
#define BPF_STACK 512u /* bpf_csum_diff() copies both sides there */

static u64 jiffies = NATIVE_FIRST_JIFFIES;
static bool fold_csum_diff;
static u64 random_seed;
static struct native_route routes[MAX_ROUTES];
static u32 route_count;
static __thread u32 cpu;
static __thread u64 random_state;

void native_kernel_reset(u32 seed)
{
	jiffies = NATIVE_FIRST_JIFFIES;
	fold_csum_diff = false;
	random_seed = seed;
	random_state = 0;
	route_count = 0;
	cpu = 0;
}

void native_set_cpu(u32 number)
{
	cpu = number % NATIVE_MAX_CPUS;
	random_state = 0;
}

u32 native_this_cpu(void)
{
	return cpu;
}

/* A thread may be preempted where a CPU is not: whoever waits for one lets it run. */
void native_relax(void)
{
	sched_yield();
}

void native_set_jiffies(u64 now)
{
	__atomic_store_n(&jiffies, now, __ATOMIC_RELAXED);
}

void native_advance(u64 by)
{
	__atomic_fetch_add(&jiffies, by, __ATOMIC_RELAXED);
}

u64 native_jiffies(void)
{
	return __atomic_load_n(&jiffies, __ATOMIC_RELAXED);
}

/* xorshift64*, one sequence a CPU. */
u32 native_random32(void)
{
	if (!random_state)
		random_state = (random_seed + 1) * 0x9e3779b97f4a7c15ull + cpu * 0xbf58476d1ce4e5b9ull + 1;
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (u32)((random_state * 0x2545f4914f6cdd1dull) >> 32);
}

void native_fold_csum_diff(bool fold)
{
	fold_csum_diff = fold;
}

s64 native_csum_diff(const be32 *from, u32 from_size, const be32 *to, u32 to_size, u32 seed)
{
	u64 sum = seed;

	if (from_size & 3 || to_size & 3 || from_size + to_size > BPF_STACK)
		return -EINVAL;
	for (u32 i = 0; i < from_size / 4; i++)
		sum += ~from[i];
	for (u32 i = 0; i < to_size / 4; i++)
		sum += to[i];
	while (sum >> 32)
		sum = (sum & 0xffffffff) + (sum >> 32);
	while (fold_csum_diff && sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (s64)sum;
}

void native_route_add(const struct native_route *route)
{
	if (route_count == MAX_ROUTES)
		abort();
	routes[route_count++] = *route;
}

static bool covers(const struct native_route *route, const u8 *dst)
{
	u32 whole = route->prefix / 8, bits = route->prefix % 8;

	if (memcmp(route->dst.b, dst, whole))
		return false;
	return !bits || !((route->dst.b[whole] ^ dst[whole]) >> (8 - bits));
}

static bool is_zero(const struct ctd_addr *a)
{
	return !(a->q[0] | a->q[1]);
}

void native_routes_clear(void)
{
	route_count = 0;
}

long native_fib_lookup(CTX *ctx, struct bpf_fib_lookup *fib, int len, u32 flags)
{
	u8 family = fib->family == AF_INET ? CTD_IPV4 : CTD_IPV6;
	const struct native_route *best = NULL;
	u16 tot_len = fib->tot_len;

	(void)ctx;
	if (len < (int)sizeof(*fib) || (fib->family != AF_INET && fib->family != AF_INET6))
		return -EINVAL;
	for (u32 i = 0; i < route_count; i++)
		if (routes[i].family == family && covers(&routes[i], (const u8 *)fib->ipv6_dst) &&
		    (!best || routes[i].prefix >= best->prefix))
			best = &routes[i];
	if (!best)
		return BPF_FIB_LKUP_RET_NOT_FWDED;
	if (best->result != BPF_FIB_LKUP_RET_SUCCESS)
		return best->result;
	if (best->mtu && tot_len > best->mtu) {
		fib->mtu_result = best->mtu;
		return BPF_FIB_LKUP_RET_FRAG_NEEDED;
	}
	fib->ifindex = best->ifindex;
	fib->mtu_result = best->mtu;
	fib->rt_metric = 0;
	if (!is_zero(&best->gateway))
		memcpy(fib->ipv6_dst, &best->gateway, family == CTD_IPV4 ? 4 : 16);
	if (flags & BPF_FIB_LOOKUP_SKIP_NEIGH)
		return BPF_FIB_LKUP_RET_SUCCESS;
	if (!best->neighbour)
		return BPF_FIB_LKUP_RET_NO_NEIGH;
	memcpy(fib->smac, best->smac, 6);
	memcpy(fib->dmac, best->dmac, 6);
	return BPF_FIB_LKUP_RET_SUCCESS;
}

long native_redirect_to(CTX *ctx, enum native_redirect_kind kind, u32 ifindex, const struct bpf_redir_neigh *gateway)
{
	ctx->redirect.kind = kind;
	ctx->redirect.ifindex = ifindex;
	ctx->redirect.has_gateway = gateway != NULL;
	memset(&ctx->redirect.gateway, 0, sizeof(ctx->redirect.gateway));
	if (gateway)
		ctx->redirect.gateway = *gateway;
	return TC_ACT_REDIRECT;
}
