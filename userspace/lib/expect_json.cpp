// SPDX-License-Identifier: Apache-2.0
#include "lib/expect_json.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "lib/addr.hpp"
#include "lib/conn_values.hpp"
#include "lib/json_reader.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr uint64_t kMaxTimeout = 86400;       // seconds
constexpr uint64_t kDefaultTimeout = 5 * 60;  // nf_conntrack_ftp's
constexpr uint32_t kLimit = 255;              // of one master: NF_CT_EXPECT_MAX_CNT

constexpr std::array<std::string_view, 7> kMembers{"master", "proto", "zone", "tuple", "timeout_s", "permanent", "nat"};

// "10.0.0.1", "10.0.0.1:80", "[2001:db8::1]:80"
std::string endpoint_text(const ctd_addr& address, ctd_family family, be16 port) {
  const std::string text = address_text(address, family);
  if (!port) return text;
  return family == CTD_IPV6 ? fmt::format("[{}]:{}", text, ntohs(port)) : fmt::format("{}:{}", text, ntohs(port));
}

struct Endpoint {
  Address address;
  be16 port = 0;  // 0: none was given
};

std::optional<Endpoint> parse_endpoint(std::string_view text) {
  std::string_view host = text, port;
  const std::size_t colon = text.rfind(':');
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == text.npos) return std::nullopt;
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return std::nullopt;
  } else if (colon != text.npos && text.find(':') == colon) {
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  const auto address = parse_address(host);
  if (!address) return std::nullopt;
  Endpoint endpoint{*address};
  if (port.empty()) return endpoint;
  const auto number = parse_number(port.substr(1), 65535);
  if (!number || *number == 0) return std::nullopt;
  endpoint.port = htons(static_cast<uint16_t>(*number));
  return endpoint;
}

OrderedJson tuple_json(const ctd_tuple& key) {
  const auto family = static_cast<ctd_family>(key.family);
  OrderedJson json = OrderedJson::object();
  if (!any_source(key)) json["src"] = address_text(key.src, family);
  json["dst"] = address_text(key.dst, family);
  const bool icmp = port_use(key.proto) == PortUse::kIcmp, gre = port_use(key.proto) == PortUse::kGre;
  if (key.sport) json[icmp ? "id" : gre ? "srckey" : "sport"] = ntohs(key.sport);
  if (icmp) {
    json["type"] = ntohs(key.dport) >> 8;
    json["code"] = ntohs(key.dport) & 0xff;
  } else if (port_use(key.proto) != PortUse::kNone) {
    json[gre ? "dstkey" : "dport"] = ntohs(key.dport);
  }
  return json;
}

Result<ctd_addr> address(const JsonReader& in, const char* name, ctd_tuple& key) {
  const std::string text = CTD_TRY(in.text(name, "an address"));
  const auto parsed = parse_address(text);
  if (!parsed) return fail("{}: \"{:.60}\": expected an address", in.path(name), text);
  if (key.family && key.family != parsed->family)
    return fail("{}: \"{}\": expected an address of the same family as dst", in.path(name), text);
  if (is_zero(parsed->value)) return fail("{}: \"{}\": leave it out if any is meant", in.path(name), text);
  key.family = static_cast<u8>(parsed->family);
  return parsed->value;
}

// A port that may be missing, which is any.
Result<be16> source_port(const JsonReader& in, const char* name) {
  return htons(static_cast<uint16_t>(CTD_TRY(in.number(name, 65535, 0))));
}

Result<> parse_ports(const JsonReader& in, ctd_tuple& key) {
  const auto number = [&](const char* name, uint64_t max) { return in.number(name, max); };
  switch (port_use(key.proto)) {
    case PortUse::kPorts:
      key.sport = CTD_TRY(source_port(in, "sport"));
      key.dport = htons(static_cast<uint16_t>(CTD_TRY(number("dport", 65535))));
      if (!key.dport) return fail("{}: 0: expected a port from 1 to 65535", in.path("dport"));
      break;
    case PortUse::kIcmp:
      key.sport = CTD_TRY(source_port(in, "id"));
      key.dport = htons(static_cast<uint16_t>(CTD_TRY(number("type", 255)) << 8 | CTD_TRY(number("code", 255))));
      break;
    case PortUse::kGre:
      key.sport = CTD_TRY(source_port(in, "srckey"));
      key.dport = CTD_TRY(source_port(in, "dstkey"));
      break;
    case PortUse::kNone:
      break;
  }
  return {};
}

Result<> parse_key(const JsonReader& in, const ctd_conn& master, ctd_tuple& key) {
  key.proto = master.orig.proto;
  if (in.has("proto")) {
    const std::string text = CTD_TRY(in.text("proto", "a protocol"));
    const auto proto = parse_protocol(text);
    if (!proto) return fail("{}: \"{:.40}\": expected a protocol, as tcp or 253", in.path("proto"), text);
    key.proto = *proto;
  }
  key.zone = static_cast<u16>(CTD_TRY(in.number("zone", 65535, master.orig.zone)));
  const JsonReader tuple = CTD_TRY(in.object("tuple"));
  key.dst = CTD_TRY(address(tuple, "dst", key));
  if (tuple.has("src")) key.src = CTD_TRY(address(tuple, "src", key));
  if ((key.proto == IPPROTO_ICMP && key.family != CTD_IPV4) || (key.proto == IPPROTO_ICMPV6 && key.family != CTD_IPV6))
    return fail("{}: {} does not run over this family", tuple.path("dst"), protocol_name(key.proto));
  return parse_ports(tuple, key);
}

Result<Endpoint> translation(const JsonReader& nat, const char* name, const ctd_tuple& key) {
  const std::string text = CTD_TRY(nat.text(name, "an address, or an address and a port"));
  const auto endpoint = parse_endpoint(text);
  if (!endpoint)
    return fail("{}: \"{:.80}\": expected an address, or one with a port as 10.0.0.1:80 or [2001:db8::1]:80",
                nat.path(name), text);
  if (endpoint->address.family != key.family)
    return fail("{}: \"{}\": expected an address of the tuple's family", nat.path(name), text);
  if (endpoint->port && port_use(key.proto) != PortUse::kPorts)
    return fail("{}: \"{}\": {} has no ports", nat.path(name), text, protocol_text(key.proto));
  return *endpoint;
}

Result<> parse_nat(const Json& json, const JsonReader& in, const ctd_conn& master, Expectation& what) {
  if (!in.has("nat") || json["nat"] == "master") {
    follow_master(what, master);
    return {};
  }
  if (json["nat"] == "none") return {};
  if (!json["nat"].is_object())
    return fail("nat: {:.60}: expected \"master\", \"none\" or an object with src or dst", json["nat"].dump());
  const JsonReader nat = CTD_TRY(in.object("nat"));
  for (const auto& [name, value] : json["nat"].items())
    if (name != "src" && name != "dst") return fail("nat.{:.40}: expected src or dst", name);
  if (nat.has("src")) {
    const Endpoint to = CTD_TRY(translation(nat, "src", what.key));
    what.expect.flags |= CTD_EXPECT_SNAT;
    what.expect.nat_src = to.address.value;
    what.expect.nat_sport = to.port;
  }
  if (nat.has("dst")) {
    const Endpoint to = CTD_TRY(translation(nat, "dst", what.key));
    what.expect.flags |= CTD_EXPECT_DNAT;
    what.expect.nat_dst = to.address.value;
    what.expect.nat_dport = to.port;
  }
  return {};
}

Result<Json> parse_object(std::string_view body) {
  Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return fail("expected a JSON object with master and tuple");
  for (const auto& [name, value] : json.items())
    if (std::ranges::find(kMembers, name) == kMembers.end())
      return fail("\"{:.40}\": expected one of {}", name, fmt::join(kMembers, ", "));
  return json;
}

}  // namespace

OrderedJson expect_json(const Expectation& expectation, const KernelClock& now) {
  const auto& [key, expect] = expectation;
  const auto family = static_cast<ctd_family>(key.family);
  OrderedJson json{{"id", std::to_string(expect.id)},
                   {"master", std::to_string(master_of(expect))},
                   {"zone", key.zone},
                   {"proto", protocol_text(key.proto)},
                   {"protonum", key.proto},
                   {"family", family == CTD_IPV6 ? "ipv6" : "ipv4"},
                   {"tuple", tuple_json(key)}};
  if (expect.flags & CTD_EXPECT_SNAT) json["nat"]["src"] = endpoint_text(expect.nat_src, family, expect.nat_sport);
  if (expect.flags & CTD_EXPECT_DNAT) json["nat"]["dst"] = endpoint_text(expect.nat_dst, family, expect.nat_dport);
  json["permanent"] = (expect.flags & CTD_EXPECT_PERMANENT) != 0;
  if (expect.helper) json["helper"] = std::to_string(expect.helper);
  json["timeout_s"] = jiffies_left(expect, now.jiffies) / now.hz;
  return json;
}

Result<uint64_t> parse_expect_master(std::string_view body) {
  const Json json = CTD_TRY(parse_object(body));
  const std::string text = CTD_TRY(JsonReader(json, "").text("master", "the id of a connection, as a string"));
  const auto id = parse_number(text, ~0ull);
  if (!id) return fail("master: \"{:.40}\": expected the id of a connection, as ctctl conntrack dump has it", text);
  return *id;
}

Result<NewExpectation> parse_expect_json(std::string_view body, const ctd_conn& master) {
  const Json json = CTD_TRY(parse_object(body));
  const JsonReader in(json, "");
  NewExpectation wanted{.limit = kLimit};
  ctd_expect& expect = wanted.what.expect;
  expect.master = master.id;
  expect.master_seq = CTD_CTL_SEQ(master.ctl);
  CTD_TRY(parse_key(in, master, wanted.what.key));
  wanted.timeout_s = static_cast<uint32_t>(CTD_TRY(in.number("timeout_s", kMaxTimeout, kDefaultTimeout)));
  if (!wanted.timeout_s) return fail("timeout_s: 0: expected seconds from 1 to {}", kMaxTimeout);
  if (in.has("permanent")) {
    if (!json["permanent"].is_boolean())
      return fail("permanent: {:.40}: expected true or false", json["permanent"].dump());
    if (json["permanent"].get<bool>()) expect.flags |= CTD_EXPECT_PERMANENT;
  }
  CTD_TRY(parse_nat(json, in, master, wanted.what));
  return wanted;
}

}  // namespace ctd
