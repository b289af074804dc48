// SPDX-License-Identifier: Apache-2.0
#include "packet_builder.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstring>
#include <stdexcept>

namespace ctd::test {
namespace {

void put8(Bytes& b, unsigned v) { b.push_back(static_cast<std::uint8_t>(v)); }
void put16(Bytes& b, unsigned v) {
  put8(b, v >> 8);
  put8(b, v & 0xff);
}
void put32(Bytes& b, std::uint32_t v) {
  put16(b, v >> 16);
  put16(b, v & 0xffff);
}
void set16(Bytes& b, std::size_t at, unsigned v) {
  b.at(at) = static_cast<std::uint8_t>(v >> 8);
  b.at(at + 1) = static_cast<std::uint8_t>(v);
}

void put_mac(Bytes& b, std::string_view text) {
  std::array<unsigned, 6> m{};
  if (std::sscanf(std::string(text).c_str(), "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
    throw std::invalid_argument("no MAC address: " + std::string(text));
  for (unsigned byte : m) put8(b, byte);
}

void put_address(Bytes& b, std::string_view text, bool v6) {
  ctd_addr a = address(text);
  b.insert(b.end(), a.b, a.b + (v6 ? 16 : 4));
}

// The internet checksum of RFC 1071, big-endian word by word; not the code under test.
std::uint32_t sum(const std::uint8_t* p, std::size_t n, std::uint32_t start = 0) {
  std::uint32_t s = start;
  for (std::size_t i = 0; i < n; i++) {
    s += i % 2 ? p[i] : static_cast<std::uint32_t>(p[i]) << 8;
    s = (s & 0xffff) + (s >> 16);
  }
  return s;
}

}  // namespace

ctd_addr address(std::string_view text) {
  ctd_addr a{};
  std::string s(text);
  if (inet_pton(s.find(':') == s.npos ? AF_INET : AF_INET6, s.c_str(), a.b) != 1)
    throw std::invalid_argument("no IP address: " + s);
  return a;
}

std::string address_text(const ctd_addr& addr, bool ipv6) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(ipv6 ? AF_INET6 : AF_INET, addr.b, text.data(), text.size());
  return text.data();
}

PacketBuilder frame() { return PacketBuilder().eth(); }

void PacketBuilder::next_type(std::uint16_t ethertype) {
  if (type_at_) set16(bytes_, *type_at_, ethertype);
  type_at_.reset();
}

void PacketBuilder::next_is(std::uint8_t proto) {
  if (next_at_) bytes_.at(*next_at_) = proto;
  next_at_.reset();
}

PacketBuilder& PacketBuilder::eth(std::string_view dst, std::string_view src, std::uint16_t type) {
  ethernet_ = true;
  put_mac(bytes_, dst);
  put_mac(bytes_, src);
  put16(bytes_, type);
  if (!type) type_at_ = bytes_.size() - 2;
  return *this;
}

PacketBuilder& PacketBuilder::vlan(std::uint16_t tci, std::uint16_t tpid) {
  next_type(tpid);
  put16(bytes_, tci);
  put16(bytes_, 0);
  type_at_ = bytes_.size() - 2;
  return *this;
}

PacketBuilder& PacketBuilder::ipv4(const Ipv4& h) {
  next_type(0x0800);
  l3_at_ = bytes_.size();
  v6_ = false;
  lies_about_length_ = h.total_len.has_value();
  later_fragment_ = h.fragment != 0;
  unsigned ihl = h.ihl.value_or(static_cast<std::uint8_t>(5 + h.option_words));
  put8(bytes_, static_cast<unsigned>(h.version.value_or(4)) << 4 | ihl);
  put8(bytes_, h.tos);
  put16(bytes_, h.total_len.value_or(0));
  put16(bytes_, h.id);
  put16(bytes_, (h.df ? 0x4000u : 0u) | (h.more ? 0x2000u : 0u) | static_cast<unsigned>(h.fragment) / 8);
  put8(bytes_, h.ttl);
  put8(bytes_, h.proto.value_or(0));
  if (h.proto)
    proto_ = *h.proto;
  else
    next_at_ = bytes_.size() - 1;
  put16(bytes_, 0);
  put_address(bytes_, h.src, false);
  put_address(bytes_, h.dst, false);
  bytes_.insert(bytes_.end(), 4u * h.option_words, 1);
  l4_at_ = bytes_.size();
  return *this;
}

PacketBuilder& PacketBuilder::ipv6(const Ipv6& h) {
  next_type(0x86dd);
  l3_at_ = bytes_.size();
  v6_ = true;
  lies_about_length_ = h.payload_len.has_value();
  put32(bytes_, static_cast<std::uint32_t>(h.version.value_or(6)) << 28 |
                    static_cast<std::uint32_t>(h.traffic_class) << 20 | (h.label & 0xfffff));
  put16(bytes_, h.payload_len.value_or(0));
  put8(bytes_, h.proto.value_or(59));
  if (h.proto)
    proto_ = *h.proto;
  else
    next_at_ = bytes_.size() - 1;
  put8(bytes_, h.hop_limit);
  put_address(bytes_, h.src, true);
  put_address(bytes_, h.dst, true);
  l4_at_ = bytes_.size();
  return *this;
}

PacketBuilder& PacketBuilder::extension(const Extension& h) {
  next_is(h.type);
  std::size_t begin = bytes_.size();
  put8(bytes_, 59);
  next_at_ = begin;
  put8(bytes_, 0);
  bytes_.insert(bytes_.end(), h.body.begin(), h.body.end());
  std::size_t unit = h.type == 51 ? 4 : 8;
  while (bytes_.size() - begin < 8 || (bytes_.size() - begin) % unit) put8(bytes_, 0);
  std::size_t size = bytes_.size() - begin;
  if (h.type != 44)
    bytes_[begin + 1] = h.length.value_or(static_cast<std::uint8_t>(unit == 4 ? size / 4 - 2 : size / 8 - 1));
  l4_at_ = bytes_.size();
  return *this;
}

PacketBuilder& PacketBuilder::tcp(const Tcp& h) {
  next_is(IPPROTO_TCP);
  proto_ = IPPROTO_TCP;
  l4_at_ = bytes_.size();
  put16(bytes_, h.sport);
  put16(bytes_, h.dport);
  put32(bytes_, h.seq);
  put32(bytes_, h.ack);
  const std::size_t words = h.option_words + (h.options.size() + 3) / 4;
  put8(bytes_, static_cast<unsigned>(h.doff.value_or(static_cast<std::uint8_t>(5 + words))) << 4);
  put8(bytes_, h.flags);
  put16(bytes_, h.window);
  put32(bytes_, 0);
  bytes_.insert(bytes_.end(), 4 * words - h.options.size(), 1);
  bytes_.insert(bytes_.end(), h.options.begin(), h.options.end());
  return *this;
}

PacketBuilder& PacketBuilder::udp(const Udp& h) {
  next_is(IPPROTO_UDP);
  proto_ = IPPROTO_UDP;
  l4_at_ = bytes_.size();
  no_checksum_ = h.no_checksum;
  lies_about_udp_length_ = h.length.has_value();
  put16(bytes_, h.sport);
  put16(bytes_, h.dport);
  put16(bytes_, h.length.value_or(0));
  put16(bytes_, 0);
  return *this;
}

PacketBuilder& PacketBuilder::icmp(const Icmp& h) {
  proto_ = static_cast<std::uint8_t>(v6_ ? 58 : 1);
  next_is(proto_);
  l4_at_ = bytes_.size();
  put8(bytes_, h.type);
  put8(bytes_, h.code);
  put16(bytes_, 0);
  put16(bytes_, h.id);
  put16(bytes_, h.seq);
  return *this;
}

void PacketBuilder::begin_l4(std::uint8_t proto) {
  next_is(proto);
  proto_ = proto;
  l4_at_ = bytes_.size();
}

PacketBuilder& PacketBuilder::udplite(const UdpLite& h) {
  begin_l4(IPPROTO_UDPLITE);
  no_checksum_ = h.no_checksum;
  coverage_ = h.coverage;
  put16(bytes_, h.sport);
  put16(bytes_, h.dport);
  put16(bytes_, h.coverage);
  put16(bytes_, 0);
  return *this;
}

PacketBuilder& PacketBuilder::sctp(const Sctp& h) {
  begin_l4(IPPROTO_SCTP);
  put16(bytes_, h.sport);
  put16(bytes_, h.dport);
  put32(bytes_, h.tag);
  put32(bytes_, 0);
  for (const Chunk& chunk : h.chunks) {
    put8(bytes_, chunk.type);
    put8(bytes_, chunk.flags);
    put16(bytes_, chunk.length.value_or(static_cast<std::uint16_t>(4 + chunk.body.size())));
    payload(chunk.body);
    while ((bytes_.size() - *l4_at_) % 4) put8(bytes_, 0);
  }
  return *this;
}

namespace {

Chunk init_chunk(std::uint8_t type, std::uint32_t tag) {
  Bytes body;
  put32(body, tag);
  put32(body, 65536);       // window
  put32(body, 0x000a000a);  // streams
  put32(body, 1);           // first TSN
  return {.type = type, .body = body};
}

}  // namespace

Chunk sctp_init(std::uint32_t tag) { return init_chunk(1, tag); }
Chunk sctp_init_ack(std::uint32_t tag) { return init_chunk(2, tag); }

// RFC 4340, section 5.
PacketBuilder& PacketBuilder::dccp(const Dccp& h) {
  begin_l4(IPPROTO_DCCP);
  const bool acks = h.type != 0 && h.type != 2;
  const std::size_t extra = h.type == 0 || h.type == 1 || h.type == 7 ? 4 : 0;  // service or reset code
  const std::size_t length = (h.short_seq ? 12 : 16) + (acks ? (h.short_seq ? 4u : 8u) : 0u) + extra;
  coverage_ = h.coverage ? length + 4u * (h.coverage - 1u) : 0;
  put16(bytes_, h.sport);
  put16(bytes_, h.dport);
  put8(bytes_, h.doff.value_or(static_cast<std::uint8_t>(length / 4)));
  put8(bytes_, h.coverage);
  put16(bytes_, 0);
  put8(bytes_, static_cast<unsigned>(h.type) << 1 | !h.short_seq);
  auto number = [this, &h](std::uint64_t n) {
    if (!h.short_seq) put16(bytes_, static_cast<unsigned>(n >> 32) & 0xffff);
    if (!h.short_seq) put8(bytes_, static_cast<unsigned>(n >> 24) & 0xff);
    put8(bytes_, static_cast<unsigned>(n >> 16) & 0xff);
    put16(bytes_, static_cast<unsigned>(n) & 0xffff);
  };
  if (!h.short_seq) put8(bytes_, 0);
  number(h.seq);
  if (acks) {
    put8(bytes_, 0);
    if (!h.short_seq) put8(bytes_, 0);
    number(h.ack);
  }
  bytes_.insert(bytes_.end(), extra, 0);
  return *this;
}

PacketBuilder& PacketBuilder::gre(const Gre& h) {
  begin_l4(IPPROTO_GRE);
  put16(bytes_, (h.version == 1 || h.key ? 0x2000u : 0u) | h.version);
  put16(bytes_, h.version == 1 ? 0x880b : h.protocol);
  if (h.version == 1) {
    put16(bytes_, 0);
    put16(bytes_, h.call_id);
  } else if (h.key) {
    put32(bytes_, *h.key);
  }
  return *this;
}

PacketBuilder& PacketBuilder::payload(std::size_t count) {
  for (std::size_t i = 0; i < count; i++) put8(bytes_, (i * 7 + 3) & 0xff);
  return *this;
}

PacketBuilder& PacketBuilder::payload(const Bytes& bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

PacketBuilder& PacketBuilder::partial() {
  partial_ = true;
  return *this;
}

PacketBuilder& PacketBuilder::gso(std::uint16_t size) {
  gso_ = size;
  return *this;
}

void PacketBuilder::fill_lengths(Bytes& b) const {
  if (!l3_at_) return;
  std::size_t l3 = b.size() - *l3_at_;
  if (!lies_about_length_) set16(b, *l3_at_ + (v6_ ? 4 : 2), static_cast<unsigned>(v6_ ? l3 - 40 : l3));
  if (proto_ == IPPROTO_UDP && !lies_about_udp_length_ && !later_fragment_ && b.size() >= *l4_at_ + 8)
    set16(b, *l4_at_ + 4, static_cast<unsigned>(b.size() - *l4_at_));
}

// Offset of the checksum in the layer 4 header; 0 if it has none that is filled in here.
std::size_t PacketBuilder::l4_csum_offset() const {
  switch (proto_) {
    case IPPROTO_TCP:
      return 16;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
      return no_checksum_ ? 0 : 6;
    case IPPROTO_DCCP:
      return 6;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return 2;
    default:
      return 0;
  }
}

// CRC-32C of RFC 9260, appendix A, bit by bit; not the code under test.
void PacketBuilder::fill_sctp_checksum(Packet& p) const {
  std::uint32_t crc = ~0u;
  for (std::size_t i = *l4_at_; i < p.bytes.size(); i++) {
    crc ^= p.bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  crc = ~crc;
  for (std::size_t i = 0; i < 4; i++) p.bytes.at(*l4_at_ + 8 + i) = static_cast<std::uint8_t>(crc >> 8 * i);
}

std::size_t PacketBuilder::covered(std::size_t length) const {
  return coverage_ && coverage_ < length ? coverage_ : length;
}

void PacketBuilder::fill_checksums(Packet& p) const {
  Bytes& b = p.bytes;
  if (!l3_at_) return;
  std::size_t l3 = *l3_at_, l4 = *l4_at_, field = l4_csum_offset(), length = b.size() - l4;
  if (!v6_) set16(b, l3 + 10, ~sum(&b[l3], std::min(l4, b.size()) - l3) & 0xffff);
  if (proto_ == IPPROTO_SCTP && !later_fragment_ && length >= 12) {
    if (partial_) {  // the device makes all of it: the field is zero
      p.partial = true;
      p.csum_start = static_cast<std::uint16_t>(l4);
      p.csum_offset = 8;
    } else {
      fill_sctp_checksum(p);
    }
    return;
  }
  if (!field || later_fragment_ || length < field + 2) return;
  std::uint32_t pseudo = 0;
  if (proto_ != IPPROTO_ICMP)
    pseudo = sum(&b[l3 + (v6_ ? 8 : 12)], v6_ ? 32 : 8, proto_ + static_cast<std::uint32_t>(length));
  if (partial_) {
    set16(b, l4 + field, pseudo);
    p.partial = true;
    p.csum_start = static_cast<std::uint16_t>(l4);
    p.csum_offset = static_cast<std::uint16_t>(field);
    return;
  }
  std::uint32_t check = ~sum(&b[l4], covered(length), pseudo) & 0xffff;
  const bool never_zero = proto_ == IPPROTO_UDP || proto_ == IPPROTO_UDPLITE;
  set16(b, l4 + field, never_zero && !check ? 0xffff : check);
}

Packet PacketBuilder::build() const {
  Packet p{.bytes = bytes_, .ethernet = ethernet_, .gso_size = gso_};
  fill_lengths(p.bytes);
  fill_checksums(p);
  return p;
}

Packet icmp_error(const Packet& about, const Error& error) {
  const std::size_t l2 = about.ethernet ? 14 : 0;
  const bool v6 = about.bytes.at(l2) >> 4 == 6;
  Bytes quoted(about.bytes.begin() + static_cast<std::ptrdiff_t>(l2), about.bytes.end());
  if (quoted.size() > error.quote) quoted.resize(error.quote);
  ctd_addr source{};
  std::memcpy(source.b, &about.bytes.at(l2 + (v6 ? 8 : 12)), v6 ? 16 : 4);
  const std::string to = address_text(source, v6);
  PacketBuilder b = frame();
  if (v6)
    b.ipv6({.src = error.from, .dst = to});
  else
    b.ipv4({.src = error.from, .dst = to});
  return b.icmp({.type = error.type, .code = error.code, .id = 0, .seq = error.mtu}).payload(quoted).build();
}

}  // namespace ctd::test
