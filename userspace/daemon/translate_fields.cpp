// SPDX-License-Identifier: Apache-2.0
#include "daemon/translate_fields.hpp"

#include <cstring>

namespace ctd {
namespace {

#define CTD_KEY_FIELD(member, layer4) {offsetof(ctd_flow_key, member), sizeof(ctd_flow_key::member), layer4}
#define CTD_OUTER(member) CTD_KEY_FIELD(member, false)
#define CTD_LAYER4(member) CTD_KEY_FIELD(member, true)

constexpr KeyField fields[] = {
    CTD_OUTER(in_port),       CTD_OUTER(recirc_id),    CTD_OUTER(packet_type), CTD_OUTER(eth_type),
    CTD_OUTER(frag),          CTD_OUTER(vlan_tci),     CTD_OUTER(ct_state),    CTD_OUTER(out_port),
    CTD_OUTER(ct_zone),       CTD_OUTER(ct_mark),      CTD_OUTER(ct_label),    CTD_OUTER(pkt_mark),
    CTD_OUTER(priority),      CTD_OUTER(dp_hash),      CTD_OUTER(vlan_tpid),   CTD_OUTER(cvlan_tpid),
    CTD_OUTER(cvlan_tci),     CTD_OUTER(mpls_lse),     CTD_OUTER(eth_dst),     CTD_OUTER(eth_src),
    CTD_OUTER(ip_proto),      CTD_OUTER(ip_dst),       CTD_OUTER(ip_src),      CTD_OUTER(ip_tos),
    CTD_OUTER(ip_ttl),        CTD_OUTER(ipv6_label),   CTD_LAYER4(dport),      CTD_LAYER4(sport),
    CTD_LAYER4(tcp_flags),    CTD_LAYER4(nd_target),   CTD_LAYER4(arp_sha),    CTD_LAYER4(arp_tha),
    CTD_OUTER(ct_orig_proto), CTD_OUTER(ct_orig_src),  CTD_OUTER(ct_orig_dst), CTD_OUTER(ct_orig_sport),
    CTD_OUTER(ct_orig_dport), CTD_OUTER(tun_id),       CTD_OUTER(tun_src),     CTD_OUTER(tun_dst),
    CTD_OUTER(tun_tos),       CTD_OUTER(tun_ttl),      CTD_OUTER(tun_flags),   CTD_OUTER(tun_sport),
    CTD_OUTER(tun_dport),     CTD_OUTER(tun_metadata), CTD_OUTER(gbp_id),      CTD_OUTER(gbp_flags),
};

#undef CTD_LAYER4
#undef CTD_OUTER
#undef CTD_KEY_FIELD

}  // namespace

std::span<const KeyField> key_fields() { return fields; }

void clear_ct_fields(ctd_flow_key& key) {
  key.ct_zone = 0;
  key.ct_state = 0;
  key.ct_orig_proto = 0;
  key.ct_mark = 0;
  std::memset(key.ct_label, 0, sizeof(key.ct_label));
  key.ct_orig_src = {};
  key.ct_orig_dst = {};
  key.ct_orig_sport = 0;
  key.ct_orig_dport = 0;
}

}  // namespace ctd
