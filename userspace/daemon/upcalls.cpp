// SPDX-License-Identifier: Apache-2.0
#include "daemon/upcalls.hpp"

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <ctd/abi/meta.h>
#include <ctd/abi/upcall.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "daemon/vnet_header.hpp"

namespace ctd {
namespace {

constexpr std::size_t kMaxFrame = 65535 + 4096;

template <typename T>
T load(const unsigned char* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
void store(unsigned char* to, const T& value) {
  std::memcpy(to, &value, sizeof(value));
}

u32 sum_words(const unsigned char* data, std::size_t size) {
  u32 sum = 0;
  for (std::size_t i = 0; i + 1 < size; i += 2) sum += load<u16>(data + i);
  return sum;
}

// Makes a GSO packet whose checksum the kernel has already verified one with a partial checksum, as a local sender's
// would be: the kernel takes a GSO packet from a tap only so. l3: the IP header, offset: its place in the frame.
bool make_partial(VnetHeader& vnet, unsigned char* l3, std::size_t size, std::size_t offset) {
  if (size < 40) return false;
  const bool v6 = l3[0] >> 4 == 6;
  const std::size_t header = v6 ? 40 : static_cast<std::size_t>(l3[0] & 15) * 4;
  const u8 proto = v6 ? l3[6] : l3[9];
  const std::size_t check = proto == IPPROTO_TCP ? 16 : proto == IPPROTO_UDP ? 6 : 0;
  if (!check || header + check + 2 > size) return false;
  u32 sum = v6 ? sum_words(l3 + 8, 32) : sum_words(l3 + 12, 8);
  sum += htons(proto) + htons(static_cast<u16>(size - header));
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  store(l3 + header + check, static_cast<u16>(sum));
  vnet.flags = VnetHeader::needs_csum;
  vnet.csum_start = static_cast<u16>(offset + header);
  vnet.csum_offset = static_cast<u16>(check);
  return true;
}

}  // namespace

Upcalls::Upcalls(int tap, u64 token, Install install)
    : tap_(tap), token_(token), install_(std::move(install)), buffer_(kMaxFrame) {}

Result<> Upcalls::handle(unsigned budget) {
  for (unsigned i = 0; i < budget; i++) {
    const ssize_t size = read(tap_, buffer_.data(), buffer_.size());
    if (size < 0) {
      if (errno == EAGAIN || errno == EINTR) return {};
      return fail_errno(errno, "reading the dedicated device");
    }
    CTD_TRY(handle_one(static_cast<std::size_t>(size)));
  }
  return {};
}

Result<> Upcalls::handle_one(std::size_t size) {
  const std::size_t head = sizeof(VnetHeader) + sizeof(ethhdr);
  if (size < head + sizeof(ctd_packet_meta)) {
    stats_.foreign++;
    return {};
  }
  const auto meta = load<ctd_packet_meta>(buffer_.data() + head);
  if (meta.magic != CTD_UPCALL_MAGIC || meta.abi_version != CTD_ABI_VERSION || meta.token != token_) {
    stats_.foreign++;
    return {};
  }
  if (const auto installed = install_(meta.key); !installed) {
    if (stats_.failed++ % 1000 == 0) spdlog::error("a miss has no flow: {}", installed.error().message());
    return {};
  }
  return give_back(size);
}

Result<> Upcalls::give_back(std::size_t size) {
  unsigned char* frame = buffer_.data() + sizeof(VnetHeader);
  // The kernel strips room only from what it takes for IP, and looks for an IPv6 neighbour only if it says IPv6. Other
  // packets get their own type back in the datapath.
  const be16 type = load<ctd_packet_meta>(frame + sizeof(ethhdr)).eth_type;
  store<u16>(frame + offsetof(ethhdr, h_proto), type == htons(ETH_P_IPV6) ? type : htons(ETH_P_IP));
  auto vnet = load<VnetHeader>(buffer_.data());
  if (vnet.gso_type != VnetHeader::gso_none && !(vnet.flags & VnetHeader::needs_csum)) {
    const std::size_t l3 = sizeof(ethhdr) + sizeof(ctd_packet_meta);
    if (!make_partial(vnet, frame + l3, size - sizeof(VnetHeader) - l3, l3)) {
      stats_.failed++;
      return {};
    }
    store(buffer_.data(), vnet);
  }
  if (write(tap_, buffer_.data(), size) < 0) {
    if (stats_.failed++ % 1000 == 0) spdlog::error("giving a packet back failed: {}", std::strerror(errno));
    return {};
  }
  stats_.handled++;
  return {};
}

}  // namespace ctd
