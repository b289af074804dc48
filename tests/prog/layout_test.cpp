// SPDX-License-Identifier: Apache-2.0
// One layout, two compilers: the BTF of the built object says of every struct of the ABI what C++ says of it.
#include <memory>
#include <string>
#include <vector>

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <ctd/abi/action.h>
#include <ctd/abi/cache.h>
#include <ctd/abi/control.h>
#include <ctd/abi/ct.h>
#include <ctd/abi/drop.h>
#include <ctd/abi/expect.h>
#include <ctd/abi/flow.h>
#include <ctd/abi/meta.h>
#include <ctd/abi/port.h>
#include <ctd/abi/upcall.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "datapath.skel.h"

namespace ctd {
namespace {

struct Field {
  std::string name;
  std::size_t offset;  // bytes
  std::size_t size;
};

void PrintTo(const Field& f, std::ostream* out) { *out << f.name << " at " << f.offset << ", " << f.size << " bytes"; }
bool operator==(const Field& a, const Field& b) { return a.name == b.name && a.offset == b.offset && a.size == b.size; }

struct Layout {
  const char* kind;  // struct or union
  const char* name;
  std::size_t size;
  std::vector<Field> fields;  // of an unnamed union, its members
};

#define FIELD(type, field) \
  Field { #field, offsetof(type, field), sizeof(type::field) }
#define F1(t, a) FIELD(t, a)
#define F2(t, a, ...) FIELD(t, a), F1(t, __VA_ARGS__)
#define F3(t, a, ...) FIELD(t, a), F2(t, __VA_ARGS__)
#define F4(t, a, ...) FIELD(t, a), F3(t, __VA_ARGS__)
#define F5(t, a, ...) FIELD(t, a), F4(t, __VA_ARGS__)
#define F6(t, a, ...) FIELD(t, a), F5(t, __VA_ARGS__)
#define F7(t, a, ...) FIELD(t, a), F6(t, __VA_ARGS__)
#define F8(t, a, ...) FIELD(t, a), F7(t, __VA_ARGS__)
#define F9(t, a, ...) FIELD(t, a), F8(t, __VA_ARGS__)
#define F10(t, a, ...) FIELD(t, a), F9(t, __VA_ARGS__)
#define F11(t, a, ...) FIELD(t, a), F10(t, __VA_ARGS__)
#define F12(t, a, ...) FIELD(t, a), F11(t, __VA_ARGS__)
#define F13(t, a, ...) FIELD(t, a), F12(t, __VA_ARGS__)
#define F14(t, a, ...) FIELD(t, a), F13(t, __VA_ARGS__)
#define F15(t, a, ...) FIELD(t, a), F14(t, __VA_ARGS__)
#define PICK(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, name, ...) name
#define FIELDS(t, ...) \
  PICK(__VA_ARGS__, F15, F14, F13, F12, F11, F10, F9, F8, F7, F6, F5, F4, F3, F2, F1)(t, __VA_ARGS__)
#define STRUCT(t, ...)                                  \
  Layout {                                              \
    "struct", #t, sizeof(t), { FIELDS(t, __VA_ARGS__) } \
  }
// Structs with more fields than that take two lists.
#define STRUCT2(t, first, second)                            \
  Layout {                                                   \
    "struct", #t, sizeof(t), { FIELDS first, FIELDS second } \
  }
#define STRUCT3(t, first, second, third)                                   \
  Layout {                                                                 \
    "struct", #t, sizeof(t), { FIELDS first, FIELDS second, FIELDS third } \
  }
#define STRUCT4(t, first, second, third, fourth)                                          \
  Layout {                                                                                \
    "struct", #t, sizeof(t), { FIELDS first, FIELDS second, FIELDS third, FIELDS fourth } \
  }

std::vector<Layout> abi() {
  return {
      STRUCT(ctd_addr, v4, w, q, b),
      STRUCT(ctd_tuple, src, dst, sport, dport, zone, proto, family),
      STRUCT(ctd_tuple4, src, dst, sport, dport, zone, proto, pad),
      STRUCT(ctd_tuple_ref, conn, seq, tag, dir, pad),
      STRUCT(ctd_tcp_window, end, max_end, max_win, scale, flags, pad),
      STRUCT(ctd_dir_count, packets, bytes),
      STRUCT(ctd_sctp_track, vtag, flags, pad, pending, reserved),
      STRUCT(ctd_dccp_track, handshake_seq, role, last_type, last_dir, reserved),
      STRUCT3(ctd_conn,
              (ctd_conn, ctl, lock, id, status, orig, reply, state, tcp_last_dir, tcp_last_flags, timeout, last_seen,
               start, mark, helper),
              (ctd_conn, timeout_policy, label, master, master_seq, next_chain, expires, count, win, sctp, dccp,
               tcp_last_seq, tcp_last_ack, tcp_last_end, tcp_last_win),
              (ctd_conn, next_free, expires_seen, tcp_retrans, end_reason, event_mask, tcp_syn_flags, tcp_syn_scale,
               source, tcp_max_ack)),
      STRUCT(ctd_ct_policy, timeout_s, flags, tcp_max_retrans, name),
      STRUCT(ctd_zone, limit, count, policy, pad, reserved),
      STRUCT(ctd_ct_stats, invalid, ended, expects, reserved),
      STRUCT(ctd_order, number, done, kind, count, reason, update, mark, mark_mask, label, label_mask, timeout, pad),
      STRUCT(ctd_request, id, seq, result, cls, conn),
      STRUCT2(ctd_expect, (ctd_expect, tag, id, master, master_seq, expires, flags, helper, kind, nat_sport, nat_dport),
              (ctd_expect, pad, nat_src, nat_dst, pad2, check)),
      STRUCT(ctd_expect_order, key, expect, timeout, limit, count, error),
      STRUCT(ctd_class, head, tail, live, over, quota, size, base, share),

      STRUCT(ctd_guard, in_port, vlan_tci, pkt_mark, eth_dst, eth_src, ip_tos, verdict, mask),
      STRUCT(ctd_verdict_head, tag, version, conn, credited, next_hop, pending, guard),
      STRUCT(ctd_verdict_tail, conn_seq, nat, dir, flow_count, flow, flow_gen),
      STRUCT(ctd_verdict4, head, src, dst, sport, dport, tag_end, tail, reserved),
      STRUCT(ctd_verdict6, head, src, dst, sport, dport, tag_end, tail, reserved),
      STRUCT(ctd_next_hop, seq, ifindex, checked, mtu, out_port, eth_dst, eth_src, family, l2_len, vlan_tci, gateway,
             reserved),

      STRUCT4(ctd_flow_key,
              (ctd_flow_key, in_port, recirc_id, out_port, pkt_mark, priority, dp_hash, ct_zone, ct_state,
               ct_orig_proto, ct_mark, ct_label, ct_orig_src, ct_orig_dst, ct_orig_sport, ct_orig_dport),
              (ctd_flow_key, eth_type, frag, packet_type, eth_dst, vlan_tpid, eth_src, vlan_tci, cvlan_tpid, cvlan_tci,
               mpls_lse, ip_src, ip_dst, ip_proto, ip_tos, ip_ttl),
              (ctd_flow_key, pad0, ipv6_label, sport, dport, tcp_flags, pad1, nd_target, arp_sha, pad2, arp_tha, pad3,
               tun_id, tun_src, tun_dst, tun_tos),
              (ctd_flow_key, tun_ttl, tun_flags, tun_sport, tun_dport, tun_metadata, gbp_id, gbp_flags, reserved)),
      {"union", "ctd_key_words", sizeof(ctd_key_words), {FIELDS(ctd_key_words, key, w)}},
      STRUCT(ctd_mask, mask, word, words, flows, hits, guard, pad),
      STRUCT(ctd_mask_list, count, id),
      STRUCT(ctd_flow_ref_key, hash, mask, pad),
      STRUCT(ctd_flow_ref, slot, gen),
      STRUCT(ctd_flow, gen, mask, actions, used, packets, bytes, tcp_flags, reserved, key),
      STRUCT(ctd_frozen, table, bridge, in_port, flows, metadata, reg, tun_id, actions, pad),

      STRUCT(ctd_action_ct, recirc_id, nat_id, zone, helper, timeout_policy, pad, mark, mark_mask, label_id, event_mask,
             reserved),
      STRUCT(ctd_action_output, port, max_len, reserved),
      STRUCT(ctd_action_route, recirc_id, reserved),
      STRUCT(ctd_action_set, value, mask, reserved),
      STRUCT(ctd_action, type, flags, arg, ct, output, route, set, raw),
      STRUCT(ctd_action_list, count, refs, slot),
      STRUCT(ctd_nat_args, flags, family, pad, min_port, max_port, min_addr, max_addr, reserved),
      STRUCT(ctd_label_args, value, mask),

      STRUCT(ctd_meta, magic, abi_version, seed, token, hz, conn_capacity, flow_capacity, tap_ifindex, rules,
             family_capacity, reserved),
      STRUCT2(ctd_rt,
              (ctd_rt, version, mask_list, beat, daemon_beat, high_water, sweep_at, timeout_scale, free_head, conns,
               sweeps),
              (ctd_rt, icmp_tokens, event_seq, events_lost, event_mask, expects, expect_ids, reserved)),
      STRUCT(ctd_config, seed, token, hz, conn_capacity, tap_ifindex, icmp_rate, family_capacity, id_batch,
             adaptive_start, adaptive_end, pad),
      STRUCT(ctd_control, count),
      STRUCT(ctd_port, ifindex, flags, number, mtu, fast_zone, mac, pad, addr4, pad2, addr6, addr6_ll),
      STRUCT(ctd_port_limit, rate, burst, tokens, filled),
      STRUCT(ctd_port_stats, rx_packets, rx_bytes, tx_packets, tx_bytes, count, drop),
      STRUCT(ctd_packet_ct, conn, conn_seq, state, dir, zone, nat_done, pad, tuple),
      // Not struct ctd_packet_meta: it stands in no map and no signature, so the object does not describe it. Both
      // compilers see the assertions in its header.
  };
}

class LayoutTest : public ::testing::Test {
 protected:
  void SetUp() override {
    skeleton_.reset(datapath_bpf__open());
    ASSERT_TRUE(skeleton_);
    btf_ = bpf_object__btf(skeleton_->obj);
    ASSERT_TRUE(btf_);
  }

  // Of an aggregate, with those of its unnamed members in their place.
  void add_fields(const btf_type* type, std::size_t base, std::vector<Field>& to) const {
    const btf_member* members = btf_members(type);
    for (u32 i = 0; i < btf_vlen(type); i++) {
      const std::size_t offset = base + btf_member_bit_offset(type, i) / 8;
      const std::string name = btf__name_by_offset(btf_, members[i].name_off);
      EXPECT_EQ(btf_member_bitfield_size(type, i), 0u) << name;
      if (name.empty()) {
        add_fields(btf__type_by_id(btf_, members[i].type), offset, to);
      } else {
        to.push_back({name, offset, static_cast<std::size_t>(btf__resolve_size(btf_, members[i].type))});
      }
    }
  }

  struct Close {
    void operator()(datapath_bpf* skeleton) const { datapath_bpf__destroy(skeleton); }
  };
  std::unique_ptr<datapath_bpf, Close> skeleton_;
  const btf* btf_ = nullptr;
};

TEST_F(LayoutTest, EveryStructIsTheSame) {
  for (const Layout& layout : abi()) {
    SCOPED_TRACE(layout.name);
    const u32 kind = std::string_view(layout.kind) == "union" ? BTF_KIND_UNION : BTF_KIND_STRUCT;
    const int id = btf__find_by_name_kind(btf_, layout.name, kind);
    ASSERT_GT(id, 0) << "not in the object: nothing there uses it";
    const btf_type* type = btf__type_by_id(btf_, static_cast<u32>(id));
    EXPECT_EQ(type->size, layout.size);
    std::vector<Field> fields;
    add_fields(type, 0, fields);
    EXPECT_THAT(fields, testing::UnorderedElementsAreArray(layout.fields));
  }
}

// A struct that is new in the ABI must be added above.
TEST_F(LayoutTest, NoStructIsForgotten) {
  std::vector<std::string> known, found;
  for (const Layout& layout : abi()) known.push_back(layout.name);
  for (u32 id = 1; id < btf__type_cnt(btf_); id++) {
    const btf_type* type = btf__type_by_id(btf_, id);
    const std::string name = btf__name_by_offset(btf_, type->name_off);
    if (btf_is_composite(type) && name.starts_with("ctd_")) found.push_back(name);
  }
  EXPECT_THAT(found, testing::UnorderedElementsAreArray(known));
}

}  // namespace
}  // namespace ctd
