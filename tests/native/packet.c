// SPDX-License-Identifier: Apache-2.0
/* Packets and the helpers that change them, after net/core/filter.c as far as its callers can tell. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "native/internal.h"
#include "native/native.h"

#define MAX_SKB 16064u /* what bpf_skb_change_tail allows in all */
#define MAX_STRIP 4095u
#define POISON 0xdd
#ifndef ENOTSUPP
#define ENOTSUPP 524 /* the kernel's own */
#endif

static u16 fold(u64 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

u16 native_csum(const void *bytes, u32 len, u32 sum)
{
	const u8 *p = bytes;
	u64 total = sum;

	for (; len > 1; len -= 2, p += 2)
		total += (u32)(p[0] | p[1] << 8);
	if (len)
		total += p[0];
	return fold(total);
}

static u8 *allocate(u32 len)
{
	u8 *p = malloc(len ? len : 1);

	if (!p)
		abort();
	return p;
}

/* Layer 3 is aligned to four bytes, as NET_IP_ALIGN does for drivers. */
static u32 head_pad(const CTX *ctx)
{
	return -ctx->mac_len & 3;
}

static void discard(u8 *p, u32 pad, u32 len)
{
	if (!p)
		return;
	memset(p, POISON, len);
	free(p - pad);
}

/* Replaces the packet's bytes: two new allocations, the old ones gone. */
static void set_bytes(CTX *ctx, const u8 *bytes, u32 len, u32 linear)
{
	u8 *head, *rest;

	if (linear > len)
		linear = len;
	head = allocate(linear + head_pad(ctx)) + head_pad(ctx);
	rest = allocate(len - linear);
	memcpy(head, bytes, linear);
	memcpy(rest, bytes + linear, len - linear);
	discard(ctx->head, head_pad(ctx), ctx->linear);
	discard(ctx->rest, 0, ctx->len - ctx->linear);
	ctx->head = head;
	ctx->rest = rest;
	ctx->len = len;
	ctx->linear = linear;
}

void native_packet_bytes(const struct native_packet *packet, void *to)
{
	memcpy(to, packet->head, packet->linear);
	memcpy((u8 *)to + packet->linear, packet->rest, packet->len - packet->linear);
}

static u8 *flat_copy(const CTX *ctx)
{
	u8 *bytes = allocate(ctx->len);

	native_packet_bytes(ctx, bytes);
	return bytes;
}

struct native_packet *native_packet_new(const void *bytes, u32 len, u32 linear, bool ethernet)
{
	struct native_packet *packet = calloc(1, sizeof(*packet));
	const u8 *p = bytes;

	if (!packet)
		abort();
	packet->mac_len = ethernet ? ETH_HLEN : 0;
	set_bytes(packet, bytes, len, linear);
	if (ethernet) {
		if (len >= ETH_HLEN)
			memcpy(&packet->protocol, p + 12, 2);
	} else if (len) {
		packet->protocol = __builtin_bswap16(p[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP);
	}
	return packet;
}

void native_packet_free(struct native_packet *packet)
{
	if (!packet)
		return;
	discard(packet->head, head_pad(packet), packet->linear);
	discard(packet->rest, 0, packet->len - packet->linear);
	free(packet);
}

static u32 sum_of_l3(const struct native_packet *packet)
{
	u8 *bytes = flat_copy(packet);
	u32 sum = packet->len > packet->mac_len ? native_csum(bytes + packet->mac_len, packet->len - packet->mac_len, 0)
						: 0;

	free(bytes);
	return sum;
}

void native_packet_csum_complete(struct native_packet *packet)
{
	packet->ip_summed = NATIVE_CSUM_COMPLETE;
	packet->csum = sum_of_l3(packet);
}

bool native_packet_csum_true(const struct native_packet *packet)
{
	/* 0 and 0xffff are the same number in this arithmetic. */
	return fold(packet->csum) % 0xffff == sum_of_l3(packet) % 0xffff;
}

/* Makes the first `len` bytes linear and moves the packet, as every helper that may reallocate. */
static bool make_writable(CTX *ctx, u32 len)
{
	u8 *bytes;

	if (len > ctx->len)
		return false;
	bytes = flat_copy(ctx);
	set_bytes(ctx, bytes, ctx->len, len > ctx->linear ? len : ctx->linear);
	free(bytes);
	return true;
}

long native_pull(CTX *ctx, u32 len)
{
	return make_writable(ctx, len ? len : ctx->linear) ? 0 : -ENOMEM;
}

long native_load(CTX *ctx, u32 off, void *to, u32 len)
{
	u8 *bytes;

	if (off > ctx->len || len > ctx->len - off) {
		memset(to, 0, len);
		return -EFAULT;
	}
	bytes = flat_copy(ctx);
	memcpy(to, bytes + off, len);
	free(bytes);
	return 0;
}

long native_store(CTX *ctx, u32 off, const void *from, u32 len)
{
	if (off > 0x7fffffff || len > 0x7fffffff - off)
		return -EFAULT;
	/* The source may be in the packet only for the kernel's verifier to refuse: it never is. */
	if (!make_writable(ctx, off + len))
		return -EFAULT;
	memcpy(ctx->head + off, from, len);
	return 0;
}

/* One's complement arithmetic on unfolded sums, as include/net/checksum.h. */
static u32 sum_add(u32 a, u32 b)
{
	u64 s = (u64)a + b;

	return (u32)(s + (s >> 32));
}

static u32 sum_sub(u32 a, u32 b)
{
	return sum_add(a, ~b);
}

static u16 sum_end(u32 sum)
{
	return (u16)~fold(sum);
}

/* inet_proto_csum_replace4(), inet_proto_csum_replace2(). */
static void replace_value(CTX *ctx, u16 *sum, u32 from, u32 to, bool pseudo)
{
	if (ctx->ip_summed != NATIVE_CSUM_PARTIAL) {
		*sum = sum_end(sum_add(sum_sub((u16) ~*sum, from), to));
		if (ctx->ip_summed == NATIVE_CSUM_COMPLETE && pseudo)
			ctx->csum = ~sum_add(sum_sub(~ctx->csum, from), to);
	} else if (pseudo) {
		*sum = (u16)~sum_end(sum_add(sum_sub(*sum, from), to));
	}
}

/* inet_proto_csum_replace_by_diff(). */
static void replace_diff(CTX *ctx, u16 *sum, u32 diff, bool pseudo, bool ipv6)
{
	if (ctx->ip_summed != NATIVE_CSUM_PARTIAL) {
		*sum = sum_end(sum_add(diff, (u16) ~*sum));
		/* IPv6 has no header checksum: the address's own change makes up for it. */
		if (ctx->ip_summed == NATIVE_CSUM_COMPLETE && pseudo && !ipv6)
			ctx->csum = ~sum_sub(diff, ctx->csum);
	} else if (pseudo) {
		*sum = (u16)~sum_end(sum_add(diff, *sum));
	}
}

long native_l4_csum(CTX *ctx, u32 off, u64 from, u64 to, u64 flags)
{
	const u64 known = BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE | BPF_F_PSEUDO_HDR | BPF_F_HDR_FIELD_MASK;
	bool pseudo = flags & BPF_F_PSEUDO_HDR, ipv6 = false;
	u16 *sum;

#ifdef BPF_F_IPV6
	ipv6 = flags & BPF_F_IPV6;
#endif
	if (flags & ~(known | (1ull << 7)))
		return -EINVAL;
	if (off > 0xffff || off & 1)
		return -EFAULT;
	if (!make_writable(ctx, off + sizeof(*sum)))
		return -EFAULT;
	sum = (u16 *)(ctx->head + off);
	if (flags & BPF_F_MARK_MANGLED_0 && !(flags & BPF_F_MARK_ENFORCE) && !*sum)
		return 0;
	switch (flags & BPF_F_HDR_FIELD_MASK) {
		case 0:
			if (from)
				return -EINVAL;
			replace_diff(ctx, sum, (u32)to, pseudo, ipv6);
			break;
		case 2:
			replace_value(ctx, sum, (u16)from, (u16)to, pseudo);
			break;
		case 4:
			replace_value(ctx, sum, (u32)from, (u32)to, pseudo);
			break;
		default:
			return -EINVAL;
	}
	if (flags & BPF_F_MARK_MANGLED_0 && !*sum)
		*sum = 0xffff;
	return 0;
}

/* Inserts (`by` > 0, zeroed) or removes bytes at `at`; what is behind moves, and csum_start with it. */
static void resize_at(CTX *ctx, u32 at, s32 by)
{
	u8 *old = flat_copy(ctx), *bytes = allocate(ctx->len + by);
	u32 skip = by < 0 ? (u32)-by : 0, gap = by > 0 ? (u32)by : 0;
	s64 linear = (s64)ctx->linear + by;

	memcpy(bytes, old, at);
	memset(bytes + at, 0, gap);
	memcpy(bytes + at + gap, old + at + skip, ctx->len - at - skip);
	set_bytes(ctx, bytes, ctx->len + by, linear > at + gap ? (u32)linear : at + gap);
	if (ctx->ip_summed == NATIVE_CSUM_PARTIAL)
		ctx->csum_start = (u16)(ctx->csum_start + by);
	free(old);
	free(bytes);
}

long native_change_head(CTX *ctx, u32 len)
{
	if (!ctx->gso_size && ctx->len + len > MAX_SKB)
		return -EINVAL;
	resize_at(ctx, 0, (s32)len);
	return 0;
}

long native_change_tail(CTX *ctx, u32 len)
{
	u32 least = ctx->mac_len;
	u8 *old, *bytes;

	if (ctx->ip_summed == NATIVE_CSUM_PARTIAL)
		least = ctx->csum_start + ctx->csum_offset + 2u;
	if (len > MAX_SKB || len < least)
		return -EINVAL;
	old = flat_copy(ctx);
	bytes = allocate(len);
	memset(bytes, 0, len);
	memcpy(bytes, old, len < ctx->len ? len : ctx->len);
	set_bytes(ctx, bytes, len, len > ctx->len ? len : ctx->linear);
	ctx->gso_size = 0;
	if (ctx->ip_summed == NATIVE_CSUM_COMPLETE)
		ctx->ip_summed = NATIVE_CSUM_NONE;
	free(old);
	free(bytes);
	return 0;
}

long native_strip(CTX *ctx, u32 len)
{
	bool ip4 = ctx->protocol == __builtin_bswap16(ETH_P_IP), ip6 = ctx->protocol == __builtin_bswap16(ETH_P_IPV6);
	u32 l3 = ctx->len - ctx->mac_len;

	if (len > MAX_STRIP)
		return -EFAULT;
	if (!ip4 && !ip6)
		return -ENOTSUPP;
	if (len >= l3 || l3 - len < (ip6 ? 40u : 20u))
		return -ENOTSUPP;
	resize_at(ctx, ctx->mac_len, -(s32)len);
	return 0;
}

long native_vlan_push(CTX *ctx, be16 tpid, u16 tci)
{
	if (ctx->vlan_present) {
		be16 inner[2] = {ctx->vlan_tpid, __builtin_bswap16(ctx->vlan_tci)};

		if (ctx->len < ETH_HLEN)
			return -EFAULT;
		resize_at(ctx, 12, 4);
		memcpy(ctx->head + 12, inner, sizeof(inner));
		ctx->protocol = inner[0];
	}
	if (tpid != __builtin_bswap16(ETH_P_8021Q) && tpid != __builtin_bswap16(ETH_P_8021AD))
		tpid = __builtin_bswap16(ETH_P_8021Q);
	ctx->vlan_present = true;
	ctx->vlan_tpid = tpid;
	ctx->vlan_tci = tci;
	make_writable(ctx, ctx->linear);
	return 0;
}

long native_vlan_pop(CTX *ctx)
{
	be16 in_band[2];

	ctx->vlan_present = false;
	ctx->vlan_tci = 0;
	ctx->vlan_tpid = 0;
	make_writable(ctx, ctx->linear);
	if (ctx->protocol != __builtin_bswap16(ETH_P_8021Q) && ctx->protocol != __builtin_bswap16(ETH_P_8021AD))
		return 0;
	if (ctx->len < ETH_HLEN + 4)
		return 0;
	/* The next tag of the packet becomes the accelerated one. */
	native_load(ctx, 12, in_band, sizeof(in_band));
	resize_at(ctx, 12, -4);
	native_load(ctx, 12, &ctx->protocol, 2);
	ctx->vlan_present = true;
	ctx->vlan_tpid = in_band[0];
	ctx->vlan_tci = __builtin_bswap16(in_band[1]);
	return 0;
}
