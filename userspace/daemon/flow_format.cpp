// SPDX-License-Identifier: Apache-2.0
#include "daemon/flow_format.hpp"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <fmt/format.h>

#include "daemon/match.hpp"
#include "daemon/rule.hpp"
#include "daemon/rule_ct.hpp"
#include "lib/addr.hpp"

namespace ctd {
namespace {

std::string port_text(u32 port, const PortNames* ports) { return ports ? ports->text(port) : std::to_string(port); }

template <typename T>
bool is_full(T mask) {
  return mask == static_cast<T>(~T{});
}

std::string decimal(u64 value, u64 mask, u64 full) {
  return mask == full ? std::to_string(value) : fmt::format("{}/{:#x}", value, mask);
}

// Zero is "0", as printf's %#x has it.
std::string hex_number(u64 value) { return value ? fmt::format("{:#x}", value) : "0"; }

template <typename T>
std::string hex(T value, T mask) {
  return is_full(mask) ? hex_number(value) : fmt::format("{}/{}", hex_number(value), hex_number(mask));
}

bool any(const void* mask, std::size_t size) {
  const u8* bytes = static_cast<const u8*>(mask);
  return std::any_of(bytes, bytes + size, [](u8 byte) { return byte != 0; });
}

// The fields of one parenthesis, and of the whole key: comma-separated.
class Fields {
 public:
  void add(std::string_view name, const std::string& value) {
    text_ += fmt::format("{}{}={}", text_.empty() ? "" : ",", name, value);
  }
  void group(std::string_view name, const std::string& content) {
    text_ += fmt::format("{}{}({})", text_.empty() ? "" : ",", name, content);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string address(const ctd_addr& value, const ctd_addr& mask, ctd_family family) {
  const std::size_t size = family == CTD_IPV4 ? 4 : 16;
  const bool exact = std::all_of(mask.b, mask.b + size, [](u8 byte) { return byte == 0xff; });
  const std::string text = address_text(value, family);
  return exact ? text : fmt::format("{}/{}", text, address_text(mask, family));
}

std::string mac(const u8 (&value)[6], const u8 (&mask)[6]) {
  const bool exact = std::all_of(mask, mask + 6, [](u8 byte) { return byte == 0xff; });
  return exact ? mac_text(value) : fmt::format("{}/{}", mac_text(value), mac_text(mask));
}

std::string eth_type_text(u16 type) { return fmt::format("{:#06x}", type); }

std::string frag_text(u8 frag) { return frag == CTD_FRAG_NO ? "no" : frag == CTD_FRAG_FIRST ? "first" : "later"; }

// A key and a mask, written layer by layer.
class KeyWriter {
 public:
  KeyWriter(const ctd_key_words& key, const ctd_key_words& mask, const PortNames* ports)
      : key_(key.key), mask_(mask.key), ports_(ports) {}

  std::string write() {
    metadata();
    connection();
    original_tuple();
    link();
    return out_.text();
  }

 private:
  void metadata() {
    if (mask_.recirc_id) out_.group("recirc_id", hex_number(key_.recirc_id));
    if (mask_.dp_hash) out_.group("dp_hash", hex(key_.dp_hash, mask_.dp_hash));
    if (mask_.priority) out_.group("skb_priority", hex(key_.priority, mask_.priority));
    if (mask_.in_port) out_.group("in_port", port_text(key_.in_port, ports_));
    if (mask_.out_port) out_.group("out_port", key_.out_port ? port_text(key_.out_port, ports_) : "0");
    if (mask_.pkt_mark) out_.group("skb_mark", hex(key_.pkt_mark, mask_.pkt_mark));
  }

  void connection() {
    if (mask_.ct_state) out_.group("ct_state", format_ct_state(key_.ct_state, mask_.ct_state));
    if (mask_.ct_zone) out_.group("ct_zone", decimal(key_.ct_zone, mask_.ct_zone, 0xffff));
    if (mask_.ct_mark) out_.group("ct_mark", hex(key_.ct_mark, mask_.ct_mark));
    if (any(mask_.ct_label, sizeof(mask_.ct_label)))
      out_.group("ct_label", format_label(key_.ct_label, mask_.ct_label));
  }

  void original_tuple() {
    const ctd_family family = key_.eth_type == htons(ETH_P_IPV6) ? CTD_IPV6 : CTD_IPV4;
    Fields tuple;
    if (any(&mask_.ct_orig_src, 16)) tuple.add("src", address(key_.ct_orig_src, mask_.ct_orig_src, family));
    if (any(&mask_.ct_orig_dst, 16)) tuple.add("dst", address(key_.ct_orig_dst, mask_.ct_orig_dst, family));
    if (mask_.ct_orig_proto) tuple.add("proto", decimal(key_.ct_orig_proto, mask_.ct_orig_proto, 0xff));
    if (mask_.ct_orig_sport) tuple.add("tp_src", be_number(key_.ct_orig_sport, mask_.ct_orig_sport));
    if (mask_.ct_orig_dport) tuple.add("tp_dst", be_number(key_.ct_orig_dport, mask_.ct_orig_dport));
    if (!tuple.text().empty()) out_.group(family == CTD_IPV6 ? "ct_tuple6" : "ct_tuple4", tuple.text());
  }

  void link() {
    Fields eth;
    if (any(mask_.eth_src, 6)) eth.add("src", mac(key_.eth_src, mask_.eth_src));
    if (any(mask_.eth_dst, 6)) eth.add("dst", mac(key_.eth_dst, mask_.eth_dst));
    const u16 type = ntohs(key_.eth_type);
    if (key_.packet_type == CTD_PT_L3)
      out_.group("packet_type", fmt::format("ns=1,id={:#x}", type));
    else
      out_.group("eth", eth.text());
    if (!(key_.vlan_tci & htons(0x1000))) return payload(type);
    out_.group("eth_type", eth_type_text(key_.vlan_tpid ? ntohs(key_.vlan_tpid) : ETH_P_8021Q));
    out_.group("vlan", vlan_text());
    Fields outer;
    std::swap(outer, out_);
    payload(type);
    std::swap(outer, out_);
    out_.group("encap", outer.text());
  }

  std::string vlan_text() const {
    const u16 tci = ntohs(key_.vlan_tci), mask = ntohs(mask_.vlan_tci);
    Fields vlan;
    if (mask & 0x0fff) vlan.add("vid", decimal(tci & 0xfff, mask & 0xfff, 0xfff));
    if (mask & 0xe000) vlan.add("pcp", decimal(tci >> 13, mask >> 13, 7));
    return vlan.text();
  }

  void payload(u16 type) {
    if (mask_.eth_type) out_.group("eth_type", eth_type_text(type));
    if (type == ETH_P_IP || type == ETH_P_IPV6) {
      network(type == ETH_P_IP ? CTD_IPV4 : CTD_IPV6);
      transport();
    } else if (type == ETH_P_ARP) {
      arp();
    }
  }

  void network(ctd_family family) {
    const char* names[2][3] = {{"ipv4", "tos", "ttl"}, {"ipv6", "tclass", "hlimit"}};
    const auto& name = names[family == CTD_IPV6];
    Fields ip;
    if (any(&mask_.ip_src, 16)) ip.add("src", address(key_.ip_src, mask_.ip_src, family));
    if (any(&mask_.ip_dst, 16)) ip.add("dst", address(key_.ip_dst, mask_.ip_dst, family));
    if (mask_.ipv6_label) ip.add("label", hex(ntohl(key_.ipv6_label), ntohl(mask_.ipv6_label)));
    if (mask_.ip_proto) ip.add("proto", decimal(key_.ip_proto, mask_.ip_proto, 0xff));
    if (mask_.ip_tos) ip.add(name[1], hex(key_.ip_tos, mask_.ip_tos));
    if (mask_.ip_ttl) ip.add(name[2], decimal(key_.ip_ttl, mask_.ip_ttl, 0xff));
    if (mask_.frag) ip.add("frag", frag_text(key_.frag));
    if (!ip.text().empty()) out_.group(name[0], ip.text());
  }

  void transport() {
    static constexpr struct {
      u8 proto;
      const char *name, *sport, *dport;
    } protocols[] = {{IPPROTO_TCP, "tcp", "src", "dst"},
                     {IPPROTO_UDP, "udp", "src", "dst"},
                     {IPPROTO_SCTP, "sctp", "src", "dst"},
                     {IPPROTO_ICMP, "icmp", "type", "code"},
                     {IPPROTO_ICMPV6, "icmpv6", "type", "code"}};
    for (const auto& protocol : protocols) {
      if (!mask_.ip_proto || key_.ip_proto != protocol.proto) continue;
      Fields ports;
      if (mask_.sport) ports.add(protocol.sport, be_number(key_.sport, mask_.sport));
      if (mask_.dport) ports.add(protocol.dport, be_number(key_.dport, mask_.dport));
      if (!ports.text().empty()) out_.group(protocol.name, ports.text());
    }
    if (mask_.tcp_flags) out_.group("tcp_flags", format_tcp_flags(ntohs(key_.tcp_flags), ntohs(mask_.tcp_flags)));
    Fields nd;
    if (any(&mask_.nd_target, 16)) nd.add("target", address(key_.nd_target, mask_.nd_target, CTD_IPV6));
    if (any(mask_.arp_sha, 6)) nd.add("sll", mac(key_.arp_sha, mask_.arp_sha));
    if (any(mask_.arp_tha, 6)) nd.add("tll", mac(key_.arp_tha, mask_.arp_tha));
    if (!nd.text().empty()) out_.group("nd", nd.text());
  }

  void arp() {
    Fields arp;
    if (any(&mask_.ip_src, 4)) arp.add("sip", address(key_.ip_src, mask_.ip_src, CTD_IPV4));
    if (any(&mask_.ip_dst, 4)) arp.add("tip", address(key_.ip_dst, mask_.ip_dst, CTD_IPV4));
    if (mask_.ip_proto) arp.add("op", decimal(key_.ip_proto, mask_.ip_proto, 0xff));
    if (any(mask_.arp_sha, 6)) arp.add("sha", mac(key_.arp_sha, mask_.arp_sha));
    if (any(mask_.arp_tha, 6)) arp.add("tha", mac(key_.arp_tha, mask_.arp_tha));
    if (!arp.text().empty()) out_.group("arp", arp.text());
  }

  static std::string be_number(be16 value, be16 mask) { return decimal(ntohs(value), ntohs(mask), 0xffff); }

  const ctd_flow_key& key_;
  const ctd_flow_key& mask_;
  const PortNames* ports_;
  Fields out_;
};

const char* action_name(u16 type) {
  static constexpr const char* names[] = {
#define X(id, name) #name,
      CTD_ACTIONS(X)
#undef X
  };
  return type < CTD_ACT_COUNT ? names[type] : "unknown";
}

std::string nat_text(u32 id, const ArgsTable& args) {
  if (id == 0) return "nat";
  const ctd_nat_args* mapping = args.nat.find(id);
  return mapping ? fmt::format("nat({})", format_nat(*mapping)) : fmt::format("nat(id={})", id);
}

std::string label_text(u32 id, const ArgsTable& args) {
  const ctd_label_args* label = args.labels.find(id);
  if (!label) return fmt::format("label=id={}", id);
  // dpctl writes label and mask always.
  u8 full[16];
  std::memset(full, 0xff, sizeof(full));
  return fmt::format("label={}/{}", format_label(label->value, full), format_label(label->mask, full));
}

std::string policy_text(u16 id, const ArgsTable& args) {
  for (const auto& [name, known] : args.policies) {
    if (known == id) return name;
  }
  return fmt::format("id={}", id);
}

std::string ct_text(const ctd_action& action, const ArgsTable& args) {
  std::string text = action.flags & CTD_CTF_COMMIT ? "commit," : "";
  if (action.flags & CTD_CTF_FORCE) text = "force_commit,";
  const bool field = action.flags & CTD_CTF_ZONE_FIELD;
  text += fmt::format("zone={}", field ? format_zone_field(action.ct.zone) : std::to_string(action.ct.zone));
  if (action.flags & CTD_CTF_MARK) text += fmt::format(",mark={:#x}/{:#x}", action.ct.mark, action.ct.mark_mask);
  if (action.flags & CTD_CTF_LABEL) text += "," + label_text(action.ct.label_id, args);
  if (action.ct.helper) text += fmt::format(",helper={}", action.ct.helper);
  if (action.ct.timeout_policy) text += ",timeout=" + policy_text(action.ct.timeout_policy, args);
  if (action.flags & CTD_CTF_NAT) text += "," + nat_text(action.ct.nat_id, args);
  const std::string recirc = action.ct.recirc_id ? fmt::format(",recirc({:#x})", action.ct.recirc_id) : "";
  return fmt::format("ct({}){}", text, recirc);
}

std::string action_text(const ctd_action& action, const ArgsTable& args, const PortNames* ports) {
  switch (action.type) {
    case CTD_ACT_OUTPUT:
      return action.output.port == CTD_PORT_NONE ? "output(out_port)" : port_text(action.output.port, ports);
    case CTD_ACT_CT:
      return ct_text(action, args);
    case CTD_ACT_ROUTE:
      return action.route.recirc_id ? fmt::format("route,recirc({:#x})", action.route.recirc_id) : "route";
    case CTD_ACT_RECIRC:
      return fmt::format("recirc({:#x})", action.arg);
    default:
      return action_name(action.type);
  }
}

std::string list_text(std::span<const ctd_action> actions, const ArgsTable& args, const PortNames* ports) {
  std::string text;
  for (std::size_t i = 0; i < actions.size(); ++i) {
    if (i > 0) text += ",";
    if (actions[i].type != CTD_ACT_CLONE) {
      text += action_text(actions[i], args, ports);
      continue;
    }
    const std::size_t nested = std::min<std::size_t>(actions[i].arg, actions.size() - i - 1);
    text += fmt::format("clone({})", list_text(actions.subspan(i + 1, nested), args, ports));
    i += nested;
  }
  return text;
}

// "SFPR.": as in dpctl, one letter a flag that was seen.
std::string seen_flags(u16 flags) {
  static constexpr struct {
    u16 bit;
    char letter;
  } letters[] = {{0x02, 'S'}, {0x01, 'F'}, {0x08, 'P'}, {0x04, 'R'},
                 {0x20, 'U'}, {0x10, '.'}, {0x40, 'E'}, {0x80, 'C'}};
  std::string text;
  for (const auto& [bit, letter] : letters) {
    if (flags & bit) text += letter;
  }
  return text;
}

}  // namespace

std::string format_key(const ctd_key_words& key, const ctd_key_words& mask, const PortNames* ports) {
  return KeyWriter(key, mask, ports).write();
}

std::string format_datapath_actions(std::span<const ctd_action> actions, const ArgsTable& args,
                                    const PortNames* ports) {
  return actions.empty() ? "drop" : list_text(actions, args, ports);
}

std::string format_flow(const ctd_key_words& key, const ctd_key_words& mask, std::span<const ctd_action> actions,
                        const FlowStats& stats, const ArgsTable& args, const PortNames* ports) {
  const std::string used =
      stats.used_ms ? fmt::format("{}.{:03}s", *stats.used_ms / 1000, *stats.used_ms % 1000) : "never";
  const std::string flags = stats.tcp_flags ? ", flags:" + seen_flags(stats.tcp_flags) : "";
  return fmt::format("{}, packets:{}, bytes:{}, used:{}{}, actions:{}", format_key(key, mask, ports), stats.packets,
                     stats.bytes, used, flags, format_datapath_actions(actions, args, ports));
}

}  // namespace ctd
