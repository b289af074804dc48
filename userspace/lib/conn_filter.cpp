// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_filter.hpp"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "lib/conn_table.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

constexpr std::size_t kMaxIds = 256;
constexpr uint32_t kMaxSeconds = 0xffffffff;

// Protocols that stand for a numbering of states; the last one for all others.
constexpr std::array<uint8_t, 4> kStateProtocols{IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDP};

constexpr std::string_view kAddress = "ADDRESS[/PREFIX]", kPort = "PORT[-PORT]", kNumber = "N[-N]";

Error expected(std::string_view value, std::string_view right) { return fail("\"{:.80}\": expected {}", value, right); }

bool covered_equal(const uint8_t* a, const uint8_t* b, unsigned bits) {
  if (std::memcmp(a, b, bits / 8) != 0) return false;
  const unsigned rest = bits % 8;
  return rest == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0;
}

template <typename T>
Result<> put(std::optional<T>& to, std::optional<T> value, std::string_view text, std::string_view right) {
  if (!value) return expected(text, right);
  to = value;
  return {};
}

template <typename Range>
Result<> put_range(std::optional<Range>& to, std::string_view text, uint32_t max, std::string_view right) {
  const std::size_t dash = text.find('-');
  const auto first = parse_number(text.substr(0, dash), max);
  const auto last = dash == std::string_view::npos ? first : parse_number(text.substr(dash + 1), max);
  if (!first || !last || *first > *last) return expected(text, right);
  to = Range{static_cast<uint32_t>(*first), static_cast<uint32_t>(*last)};
  return {};
}

Result<> put_status(uint32_t& to, std::string_view text) {
  for (const std::string_view name : split(text)) {
    const auto bit = parse_status(name);
    if (!bit) return expected(name, status_names());
    to |= *bit;
  }
  return {};
}

Result<> no_value(std::string_view text) {
  if (!text.empty()) return expected(text, "no value");
  return {};
}

constexpr std::string_view kPortRight = "a port or a range of ports, as 80 or 1024-2047";
constexpr std::string_view kByteRight = "a number from 0 to 255, or a range as 0-8";
constexpr std::string_view kIdRight = "an identifier from 0 to 65535, or a range";
constexpr std::string_view kKeyRight = "a key or call id from 0 to 65535, or a range";

}  // namespace

std::span<const ConnFilter::Field> ConnFilter::fields() {
  using F = ConnFilter;
  using Text = std::string_view;
  static constexpr std::array all{
      Field{"proto", "-p,--proto", "PROTOCOL", "Protocol by name or number",
            [](F& f, Text v) {
              return put(f.proto_, parse_protocol(v), v, "a protocol, as tcp, or a number from 0 to 255");
            }},
      Field{"family", "-f,--family", "FAMILY", "ipv4 or ipv6",
            [](F& f, Text v) -> Result<> {
              if (v != "ipv4" && v != "ipv6") return expected(v, "ipv4 or ipv6");
              return f.set_family(v == "ipv4" ? CTD_IPV4 : CTD_IPV6);
            }},
      Field{"orig-src", "-s,--src,--orig-src", kAddress, "Source of the original direction",
            [](F& f, Text v) { return f.set_address(f.address_[kOrigSrc], v); }},
      Field{"orig-dst", "-d,--dst,--orig-dst", kAddress, "Destination of the original direction",
            [](F& f, Text v) { return f.set_address(f.address_[kOrigDst], v); }},
      Field{"reply-src", "-r,--reply-src", kAddress, "Source of the replies",
            [](F& f, Text v) { return f.set_address(f.address_[kReplySrc], v); }},
      Field{"reply-dst", "-q,--reply-dst", kAddress, "Destination of the replies",
            [](F& f, Text v) { return f.set_address(f.address_[kReplyDst], v); }},
      Field{"sport", "--sport,--orig-port-src", kPort, "Source port of the original direction",
            [](F& f, Text v) { return put_range(f.port_[kOrigSrc], v, 65535, kPortRight); }},
      Field{"dport", "--dport,--orig-port-dst", kPort, "Destination port of the original direction",
            [](F& f, Text v) { return put_range(f.port_[kOrigDst], v, 65535, kPortRight); }},
      Field{"reply-sport", "--reply-sport,--reply-port-src", kPort, "Source port of the replies",
            [](F& f, Text v) { return put_range(f.port_[kReplySrc], v, 65535, kPortRight); }},
      Field{"reply-dport", "--reply-dport,--reply-port-dst", kPort, "Destination port of the replies",
            [](F& f, Text v) { return put_range(f.port_[kReplyDst], v, 65535, kPortRight); }},
      Field{"srckey", "--srckey,--orig-key-src", kNumber, "GRE: key (PPTP: call id) of the original direction's source",
            [](F& f, Text v) { return put_range(f.key_[kOrigSrc], v, 65535, kKeyRight); }},
      Field{"dstkey", "--dstkey,--orig-key-dst", kNumber, "GRE: key of its destination",
            [](F& f, Text v) { return put_range(f.key_[kOrigDst], v, 65535, kKeyRight); }},
      Field{"reply-srckey", "--reply-srckey,--reply-key-src", kNumber, "GRE: key of the replies' source",
            [](F& f, Text v) { return put_range(f.key_[kReplySrc], v, 65535, kKeyRight); }},
      Field{"reply-dstkey", "--reply-dstkey,--reply-key-dst", kNumber, "GRE: key of the replies' destination",
            [](F& f, Text v) { return put_range(f.key_[kReplyDst], v, 65535, kKeyRight); }},
      Field{"icmp-type", "--icmp-type", kNumber, "Type of the ICMP or ICMPv6 query",
            [](F& f, Text v) { return put_range(f.icmp_[CTD_DIR_ORIG].type, v, 255, kByteRight); }},
      Field{"icmp-code", "--icmp-code", kNumber, "Its code",
            [](F& f, Text v) { return put_range(f.icmp_[CTD_DIR_ORIG].code, v, 255, kByteRight); }},
      Field{"icmp-id", "--icmp-id", kNumber, "Its identifier",
            [](F& f, Text v) { return put_range(f.icmp_[CTD_DIR_ORIG].id, v, 65535, kIdRight); }},
      Field{"reply-icmp-type", "--reply-icmp-type", kNumber, "Type of the answer to it",
            [](F& f, Text v) { return put_range(f.icmp_[CTD_DIR_REPLY].type, v, 255, kByteRight); }},
      Field{"reply-icmp-code", "--reply-icmp-code", kNumber, "Code of the answer",
            [](F& f, Text v) { return put_range(f.icmp_[CTD_DIR_REPLY].code, v, 255, kByteRight); }},
      Field{"reply-icmp-id", "--reply-icmp-id", kNumber, "Identifier of the answer",
            [](F& f, Text v) { return put_range(f.icmp_[CTD_DIR_REPLY].id, v, 65535, kIdRight); }},
      Field{"src-nat", "-n,--src-nat", "[ADDRESS[/PREFIX]]", "The source is translated (to this)",
            [](F& f, Text v) { return f.set_nat(kSrcNat, f.nat_src_, v); }},
      Field{"dst-nat", "-g,--dst-nat", "[ADDRESS[/PREFIX]]", "The destination is translated (to this)",
            [](F& f, Text v) { return f.set_nat(kDstNat, f.nat_dst_, v); }},
      Field{"any-nat", "-j,--any-nat", "", "Source or destination are translated",
            [](F& f, Text v) {
              f.nat_ |= kAnyNat;
              return no_value(v);
            }},
      Field{"no-nat", "--no-nat", "", "Nothing is translated",
            [](F& f, Text v) {
              f.nat_ |= kNoNat;
              return no_value(v);
            }},
      Field{"zone", "-w,--zone", "ZONE", "Zone",
            [](F& f, Text v) -> Result<> {
              const auto zone = parse_number(v, 65535);
              if (!zone) return expected(v, "a number from 0 to 65535");
              f.zone_ = static_cast<uint16_t>(*zone);
              return {};
            }},
      Field{"mark", "-m,--mark", "MARK[/MASK]", "Mark",
            [](F& f, Text v) { return put(f.mark_, parse_masked(v, 32), v, "a mark of 32 bits, as 7 or 0x10/0xf0"); }},
      Field{"label", "-l,--label", "LABEL[/MASK]", "Label, a number of 128 bits",
            [](F& f, Text v) {
              return put(f.label_, parse_masked(v, 128), v, "a label of 128 bits, as 0x1f or 0x10/0xf0");
            }},
      Field{"state", "--state", "STATE[,STATE…]", "State, one of these", [](F& f, Text v) { return f.set_states(v); }},
      Field{"status", "-u,--status", "STATUS[,STATUS…]", "Status, all of these",
            [](F& f, Text v) { return put_status(f.status_, v); }},
      Field{"not-status", "--not-status", "STATUS[,STATUS…]", "Status, none of these",
            [](F& f, Text v) { return put_status(f.not_status_, v); }},
      Field{"class", "--class", "CLASS[,CLASS…]", "Class, one of these: unanswered, answered, assured",
            [](F& f, Text v) { return f.set_classes(v); }},
      Field{"policy", "--policy", "NAME", "Timeout policy; default is the one without a name",
            [](F& f, Text v) -> Result<> {
              f.policy_ = v;
              return {};
            }},
      Field{"expires", "--expires", "SECONDS[-SECONDS]", "Seconds until it expires",
            [](F& f, Text v) { return put_range(f.expires_, v, kMaxSeconds, "seconds, or a range of them as 0-30"); }},
      Field{"id", "--id", "ID[,ID…]", "One of these ids", [](F& f, Text v) { return f.set_ids(v); }},
      Field{"master", "--master", "ID", "Id of the connection that expected it",
            [](F& f, Text v) { return put(f.master_, parse_number(v, ~0ull), v, "an id, as a dump has it"); }},
  };
  static_assert(all.size() <= 64);  // terms_
  return all;
}

std::string ConnFilter::field_names() {
  std::string names = "they are ";
  for (const Field& field : fields()) names.append(&field == &fields().front() ? "" : ", ").append(field.name);
  return names;
}

Result<ConnFilter> ConnFilter::make(std::span<const Term> terms, const ConnPolicies* policies) {
  ConnFilter filter;
  for (const Term& term : terms) {
    const auto field = std::ranges::find(fields(), std::string_view(term.name), &Field::name);
    if (field == fields().end()) return fail("\"{:.40}\" is no field of a connection; {}", term.name, field_names());
    const auto index = static_cast<std::size_t>(field - fields().begin());
    if (filter.terms_ >> index & 1) return fail("{}: given twice", field->name);
    filter.terms_ |= 1ull << index;
    if (term.value.empty() && !field->value_optional()) return fail("{}: expected {}", field->name, field->value);
    CTD_TRY(field->set(filter, term.value).context("{}", field->name));
  }
  CTD_TRY(filter.check());
  if (policies) CTD_TRY(filter.resolve(*policies));
  return filter;
}

std::vector<ConnFilter::Term> ConnFilter::completed(std::vector<Term> terms) {
  const auto given = [&](std::string_view name) { return std::ranges::find(terms, name, &Term::name) != terms.end(); };
  const auto proto = std::ranges::find(terms, "proto", &Term::name);
  const bool gre = proto != terms.end() && parse_protocol(proto->value) == IPPROTO_GRE;
  std::vector<Term> more;
  const auto zero = [&](const char* name) {
    if (!given(name)) more.push_back({name, "0"});
  };
  zero("zone");
  if (given("icmp-type")) zero("icmp-code");
  if (given("reply-icmp-type")) zero("reply-icmp-code");
  if (gre && given("orig-src") && given("orig-dst")) {
    zero("srckey");
    zero("dstkey");
  }
  if (gre && given("reply-src") && given("reply-dst")) {
    zero("reply-srckey");
    zero("reply-dstkey");
  }
  terms.insert(terms.end(), more.begin(), more.end());
  return terms;
}

Result<> ConnFilter::resolve(const ConnPolicies& policies) {
  if (!policy_) return {};
  policy_id_ = policies.find(*policy_);
  if (!policy_id_) return fail("policy: \"{:.40}\": no such policy, there are {}", *policy_, policies.all());
  return {};
}

Result<> ConnFilter::check_ports() const {
  const auto any = [](const auto& sides) {
    return std::ranges::any_of(sides, [](const auto& side) { return side.has_value(); });
  };
  const bool ports = any(port_), keys = any(key_), icmp = std::ranges::any_of(icmp_, &Icmp::given);
  if (ports + keys + icmp > 1) return fail("a connection has ports, or GRE's keys, or ICMP's type, code and id");
  if (!proto_) return {};
  const PortUse use = port_use(*proto_);
  if (ports && use != PortUse::kPorts) return fail("proto: {} has no ports", protocol_text(*proto_));
  if (keys && use != PortUse::kGre) return fail("proto: {} has no keys, gre has", protocol_text(*proto_));
  if (icmp && use != PortUse::kIcmp) return fail("proto: {} has no ICMP type, code and id", protocol_text(*proto_));
  return {};
}

// What can never match is a mistake.
Result<> ConnFilter::check() const {
  CTD_TRY(check_ports());
  if (nat_ & kNoNat && nat_ & ~uint32_t{kNoNat}) return fail("no-nat: contradicts another field about NAT");
  if (status_ & not_status_) return fail("not-status: contradicts status");
  if (proto_ && states_ && !(*states_)[state_kind(*proto_)])
    return fail("state: {} has no such state", protocol_text(*proto_));
  return {};
}

Result<> ConnFilter::set_family(ctd_family family) {
  if (family_ && *family_ != family) return fail("IPv4 and IPv6 in one filter: no connection has both");
  family_ = family;
  return {};
}

Result<> ConnFilter::set_address(std::optional<Prefix>& to, std::string_view value) {
  const std::size_t slash = value.find('/');
  const auto address = parse_address(value.substr(0, slash));
  if (!address) return expected(value, "an address, as 10.1.0.2, or a network, as 10.1.0.0/16 or 2001:db8::/32");
  const unsigned all = address->family == CTD_IPV6 ? 128 : 32;
  const auto bits = slash == std::string_view::npos ? all : parse_number(value.substr(slash + 1), all);
  if (!bits) return expected(value, fmt::format("a prefix length from 0 to {}", all));
  to = Prefix{*address, static_cast<unsigned>(*bits)};
  return set_family(address->family);
}

Result<> ConnFilter::set_nat(Nat nat, std::optional<Prefix>& to, std::string_view value) {
  nat_ |= nat;
  if (value.empty()) return {};
  return set_address(to, value);
}

Result<> ConnFilter::set_states(std::string_view value) {
  States states{};
  for (const std::string_view name : split(value)) {
    bool known = false;
    for (std::size_t kind = 0; kind < kStateProtocols.size(); ++kind) {
      const auto state = parse_conn_state(kStateProtocols[kind], name);
      if (!state) continue;
      states[kind] |= 1u << *state;
      known = true;
    }
    if (!known) return expected(name, "states, as ESTABLISHED, SYN_SENT or UNREPLIED");
  }
  states_ = states;
  return {};
}

Result<> ConnFilter::set_classes(std::string_view value) {
  uint32_t classes = 0;
  for (const std::string_view name : split(value)) {
    const auto cls = parse_conn_class(name);
    if (!cls) return expected(name, "unanswered, answered or assured");
    classes |= 1u << *cls;
  }
  classes_ = classes;
  return {};
}

Result<> ConnFilter::set_ids(std::string_view value) {
  for (const std::string_view text : split(value)) {
    const auto id = parse_number(text, ~0ull);
    if (!id || static_cast<uint32_t>(*id) == CTD_CONN_NONE) return expected(text, "ids, as a dump has them");
    if (ids_.size() == kMaxIds) return fail("at most {} ids at a time", kMaxIds);
    ids_.push_back(*id);
  }
  return {};
}

std::size_t ConnFilter::state_kind(uint8_t proto) {
  const auto* found = std::find(kStateProtocols.begin(), kStateProtocols.end() - 1, proto);
  return static_cast<std::size_t>(found - kStateProtocols.begin());
}

bool ConnFilter::Prefix::holds(const ctd_addr& other) const { return covered_equal(address.value.b, other.b, bits); }

bool ConnFilter::matches(const ctd_conn& conn, const KernelClock& now) const {
  if (empty()) return true;
  if (!ids_.empty() && std::ranges::find(ids_, unique_conn_id(conn)) == ids_.end()) return false;
  if (!tuples_match(conn) || !nat_matches(conn) || !marks_match(conn) || !kept_as_wanted(conn)) return false;
  if (states_ && !(conn.state < 32 && (*states_)[state_kind(conn.orig.proto)] >> conn.state & 1)) return false;
  if ((conn.status & status_) != status_ || conn.status & not_status_) return false;
  if (master_ && (conn.master == CTD_CONN_NONE || *master_ != unique_conn_id(conn.master_seq, conn.master)))
    return false;
  return !expires_ || expires_->holds(jiffies_left(conn, now.jiffies) / now.hz);
}

bool ConnFilter::tuples_match(const ctd_conn& conn) const {
  const ctd_tuple &orig = conn.orig, &reply = conn.reply;
  if (proto_ && orig.proto != *proto_) return false;
  if (family_ && orig.family != *family_) return false;
  if (zone_ && orig.zone != *zone_) return false;
  const PortUse use = port_use(orig.proto);
  const std::array addresses{&orig.src, &orig.dst, &reply.src, &reply.dst};
  const std::array ports{orig.sport, orig.dport, reply.sport, reply.dport};
  for (std::size_t side = 0; side < kSides; ++side) {
    const uint16_t port = ntohs(ports[side]);
    if (address_[side] && !address_[side]->holds(*addresses[side])) return false;
    if (port_[side] && (use != PortUse::kPorts || !port_[side]->holds(port))) return false;
    if (key_[side] && (use != PortUse::kGre || !key_[side]->holds(port))) return false;
  }
  return icmp_[CTD_DIR_ORIG].holds(orig) && icmp_[CTD_DIR_REPLY].holds(reply);
}

bool ConnFilter::Icmp::holds(const ctd_tuple& tuple) const {
  if (!given()) return true;
  if (port_use(tuple.proto) != PortUse::kIcmp) return false;
  const unsigned kind = ntohs(tuple.dport);
  return (!type || type->holds(kind >> 8)) && (!code || code->holds(kind & 0xff)) &&
         (!id || id->holds(ntohs(tuple.sport)));
}

bool ConnFilter::kept_as_wanted(const ctd_conn& conn) const {
  return (!classes_ || *classes_ >> CTD_CTL_CLASS(conn.ctl) & 1) && (!policy_id_ || *policy_id_ == conn.timeout_policy);
}

bool ConnFilter::nat_matches(const ctd_conn& conn) const {
  const bool src = conn.status & CTD_STATUS_SRC_NAT, dst = conn.status & CTD_STATUS_DST_NAT;
  if ((nat_ & kSrcNat && !src) || (nat_ & kDstNat && !dst)) return false;
  if ((nat_ & kAnyNat && !src && !dst) || (nat_ & kNoNat && (src || dst))) return false;
  return (!nat_src_ || nat_src_->holds(conn.reply.dst)) && (!nat_dst_ || nat_dst_->holds(conn.reply.src));
}

bool ConnFilter::marks_match(const ctd_conn& conn) const {
  return (!mark_ || mark_->holds({conn.mark, 0})) && (!label_ || label_->holds(label_of(conn)));
}

std::optional<ctd_tuple> ConnFilter::tuple() const {
  const auto orig = tuple_from(kOrigSrc);
  return orig ? orig : tuple_from(kReplySrc);
}

std::optional<ctd_tuple> ConnFilter::tuple_from(Side src) const {
  const auto &from = address_[src], &to = address_[src + 1];
  if (!proto_ || !zone_ || !from || !to || !from->whole() || !to->whole()) return std::nullopt;
  ctd_tuple tuple{};
  tuple.src = from->address.value;
  tuple.dst = to->address.value;
  tuple.zone = *zone_;
  tuple.proto = *proto_;
  tuple.family = from->address.family;
  return put_ports(tuple, src) ? std::optional(tuple) : std::nullopt;
}

bool ConnFilter::put_single(be16& to, const std::optional<Range>& from) {
  if (!from || !from->single()) return false;
  to = htons(static_cast<uint16_t>(from->first));
  return true;
}

bool ConnFilter::put_ports(ctd_tuple& tuple, Side src) const {
  const Icmp& icmp = icmp_[src == kOrigSrc ? CTD_DIR_ORIG : CTD_DIR_REPLY];
  switch (port_use(tuple.proto)) {
    case PortUse::kPorts:
      return put_single(tuple.sport, port_[src]) && put_single(tuple.dport, port_[src + 1]);
    case PortUse::kGre:
      return put_single(tuple.sport, key_[src]) && put_single(tuple.dport, key_[src + 1]);
    case PortUse::kIcmp:
      // Without the code it is not whole: connections may differ in nothing else.
      if (!icmp.type || !icmp.type->single() || !icmp.code || !icmp.code->single()) return false;
      tuple.dport = htons(static_cast<uint16_t>(icmp.type->first << 8 | icmp.code->first));
      return put_single(tuple.sport, icmp.id);
    case PortUse::kNone:
      return true;
  }
  return false;
}

}  // namespace ctd
