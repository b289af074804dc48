// SPDX-License-Identifier: Apache-2.0
// Packets for tests: layers are added from the outside in, lengths and checksums are filled in by build().
// Numbers are in host order; addresses are text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ctd/abi/types.h>

namespace ctd::test {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kUrg = 0x20;

// The bytes of a packet and what a device says about them.
struct Packet {
  Bytes bytes;
  bool ethernet = true;
  bool partial = false;  // layer 4 has only the pseudo header's sum, as from a sender with checksum offload
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
  std::uint16_t gso_size = 0;
};

struct Ipv4 {
  std::string_view src = "10.1.0.2";
  std::string_view dst = "10.0.2.2";
  std::uint8_t ttl = 64;
  std::uint8_t tos = 0;
  std::uint16_t id = 0x1234;
  bool df = true;
  bool more = false;                       // more fragments
  std::uint16_t fragment = 0;              // offset in bytes
  std::uint8_t option_words = 0;           // NOPs
  std::optional<std::uint8_t> proto;       // else that of the next layer
  std::optional<std::uint16_t> total_len;  // a lie
  std::optional<std::uint8_t> ihl;         // a lie
  std::optional<std::uint8_t> version;     // a lie
};

struct Ipv6 {
  std::string_view src = "2001:db8:1::2";
  std::string_view dst = "2001:db8:2::2";
  std::uint8_t hop_limit = 64;
  std::uint8_t traffic_class = 0;
  std::uint32_t label = 0;
  std::optional<std::uint8_t> proto;
  std::optional<std::uint16_t> payload_len;  // a lie
  std::optional<std::uint8_t> version;       // a lie
};

// An IPv6 extension header; `body` is what follows the two first bytes and is padded to a whole header.
struct Extension {
  std::uint8_t type = 60;  // 0 hop-by-hop, 43 routing, 44 fragment, 51 authentication, 60 destination options
  Bytes body;
  std::optional<std::uint8_t> length;  // the length field, a lie
};

struct Tcp {
  std::uint16_t sport = 40000;
  std::uint16_t dport = 80;
  std::uint8_t flags = kSyn;
  std::uint32_t seq = 1000;
  std::uint32_t ack = 0;
  std::uint16_t window = 65000;
  std::uint8_t option_words = 0;     // NOPs
  Bytes options;                     // behind them, padded with NOPs to whole words
  std::optional<std::uint8_t> doff;  // a lie, in words
};

struct Udp {
  std::uint16_t sport = 40000;
  std::uint16_t dport = 53;
  bool no_checksum = false;
  std::optional<std::uint16_t> length;  // a lie
};

// Also ICMPv6: the IP header in front decides.
struct Icmp {
  std::uint8_t type = 8;
  std::uint8_t code = 0;
  std::uint16_t id = 77;  // of queries
  std::uint16_t seq = 1;  // of queries; the MTU's low word of errors
};

struct UdpLite {
  std::uint16_t sport = 40000;
  std::uint16_t dport = 2000;
  std::uint16_t coverage = 8;  // bytes that the checksum covers; 0: all
  bool no_checksum = false;    // which it must not be
};

// An SCTP chunk; `body` is what follows its header, and is padded.
struct Chunk {
  std::uint8_t type = 0;
  Bytes body = {};
  std::uint8_t flags = 0;
  std::optional<std::uint16_t> length = {};  // a lie
};

struct Sctp {
  std::uint16_t sport = 40000;
  std::uint16_t dport = 36412;
  std::uint32_t tag = 0;
  std::vector<Chunk> chunks = {};
};
// The chunks that begin an association: their tag, and a fixed part.
Chunk sctp_init(std::uint32_t tag);
Chunk sctp_init_ack(std::uint32_t tag);

struct Dccp {
  std::uint16_t sport = 40000;
  std::uint16_t dport = 5001;
  std::uint8_t type = 0;  // Request
  std::uint64_t seq = 1;
  std::uint64_t ack = 0;
  std::uint8_t coverage = 0;
  bool short_seq = false;
  std::optional<std::uint8_t> doff = {};  // a lie, in words
};

struct Gre {
  std::uint8_t version = 0;
  std::optional<std::uint32_t> key = {};  // of version 0
  std::uint16_t call_id = 0;              // of version 1
  std::uint16_t protocol = 0x0800;
};

class PacketBuilder {
 public:
  PacketBuilder& eth(std::string_view dst = "02:00:00:00:00:01", std::string_view src = "02:00:00:00:00:02",
                     std::uint16_t type = 0);
  PacketBuilder& vlan(std::uint16_t tci, std::uint16_t tpid = 0x8100);
  PacketBuilder& ipv4(const Ipv4& header = {});
  PacketBuilder& ipv6(const Ipv6& header = {});
  PacketBuilder& extension(const Extension& header);
  PacketBuilder& tcp(const Tcp& header = {});
  PacketBuilder& udp(const Udp& header = {});
  PacketBuilder& icmp(const Icmp& header = {});
  PacketBuilder& udplite(const UdpLite& header = {});
  PacketBuilder& sctp(const Sctp& header = {});
  PacketBuilder& dccp(const Dccp& header = {});
  PacketBuilder& gre(const Gre& header = {});
  // `count` bytes of a fixed pattern.
  PacketBuilder& payload(std::size_t count);
  PacketBuilder& payload(const Bytes& bytes);
  // The layer 4 checksum is left to the device: only the pseudo header is summed.
  PacketBuilder& partial();
  PacketBuilder& gso(std::uint16_t size);

  Packet build() const;

 private:
  void next_is(std::uint8_t proto);
  void begin_l4(std::uint8_t proto);
  void next_type(std::uint16_t ethertype);
  void fill_lengths(Bytes& b) const;
  void fill_checksums(Packet& p) const;
  void fill_sctp_checksum(Packet& p) const;
  std::size_t l4_csum_offset() const;
  std::size_t covered(std::size_t length) const;

  Bytes bytes_;
  std::optional<std::size_t> type_at_;  // Ethernet type still to be written
  std::optional<std::size_t> next_at_;  // protocol still to be written
  std::optional<std::size_t> l3_at_;
  std::optional<std::size_t> l4_at_;
  bool ethernet_ = false;
  bool v6_ = false;
  std::uint8_t proto_ = 0;
  bool lies_about_length_ = false;
  bool lies_about_udp_length_ = false;
  bool no_checksum_ = false;
  bool later_fragment_ = false;
  std::size_t coverage_ = 0;  // of the layer 4 checksum, 0: all
  bool partial_ = false;
  std::uint16_t gso_ = 0;
};

// Starts with an Ethernet header.
PacketBuilder frame();

// An ICMP or ICMPv6 error about `about` (its layer 3 bytes are quoted, at most `quote` of them) from `from` to its
// source.
struct Error {
  std::string_view from;
  std::uint8_t type = 3;
  std::uint8_t code = 1;
  std::uint16_t mtu = 0;
  std::size_t quote = 28;
};
Packet icmp_error(const Packet& about, const Error& error);

ctd_addr address(std::string_view text);
std::string address_text(const ctd_addr& addr, bool ipv6);

}  // namespace ctd::test
