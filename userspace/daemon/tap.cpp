// SPDX-License-Identifier: Apache-2.0
#include "daemon/tap.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/route/link.h>
#include <sys/ioctl.h>

#include "daemon/nl.hpp"
#include "daemon/sysctl.hpp"

namespace ctd {
namespace {

constexpr char kTunDevice[] = "/dev/net/tun";
constexpr u32 kMtu = 65521;  // the most that a tap takes: 65535 without the Ethernet header
constexpr u32 kQueueLength = 4096;

// Of <linux/if_tun.h> since 6.2.
constexpr unsigned kTunUso4 = 0x20;  // TUN_F_USO4
constexpr unsigned kTunUso6 = 0x40;  // TUN_F_USO6

using NlLink = std::unique_ptr<rtnl_link, NlFree<rtnl_link_put>>;

u32 fnv1a(const std::string& text) {
  u32 hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<u8>(c)) * 16777619u;
  return hash;
}

Result<> attach_queue(int fd, const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(fd, TUNSETIFF, &request) == 0) return {};
  if (errno == EBUSY)
    return Error("another process has it open: is another ctd running this instance in this network namespace?", EBUSY);
  if (errno == EINVAL) return fail("a device of this name is there that is no tap: remove or rename it");
  return fail_errno(errno, "create");
}

// Whether UDP GSO was accepted as well.
Result<bool> set_offloads(int fd) {
  constexpr unsigned kBase = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (ioctl(fd, TUNSETOFFLOAD, kBase | kTunUso4 | kTunUso6) == 0) return true;
  if (errno != EINVAL) return fail_errno(errno, "offloads");
  if (ioctl(fd, TUNSETOFFLOAD, kBase) != 0) return fail_errno(errno, "offloads");
  return false;
}

// Before the device goes up, or it would get a link-local address at once.
Result<> silence_ipv6(const std::string& name) {
  for (const char* setting : {"addr_gen_mode", "disable_ipv6"}) {
    const Result<> written = write_sysctl(fmt::format("net/ipv6/conf/{}/{}", name, setting), "1");
    if (!written && written.error().code() != ENOENT) return written;  // ENOENT: a kernel without IPv6
  }
  return {};
}

}  // namespace

std::string Tap::device_name(const std::string& instance) {
  std::string name = "ctd-" + instance;
  return name.size() < IFNAMSIZ ? name : fmt::format("ctd-{:08x}", fnv1a(instance));
}

Result<Tap> Tap::open(const std::string& instance) {
  std::string name = device_name(instance);
  Fd fd(::open(kTunDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "{} (is the kernel module tun loaded?)", kTunDevice);
  Tap tap(std::move(fd), std::move(name));
  CTD_TRY(tap.set_up().context("device {}", tap.name_));
  return tap;
}

Result<> Tap::set_up() {
  CTD_TRY(attach_queue(fd_.get(), name_));
  int header_size = sizeof(VnetHeader);
  if (ioctl(fd_.get(), TUNSETVNETHDRSZ, &header_size) != 0) return fail_errno(errno, "vnet header");
  has_uso_ = CTD_TRY(set_offloads(fd_.get()));
  if (ioctl(fd_.get(), TUNSETPERSIST, 1) != 0) return fail_errno(errno, "make persistent");

  CTD_TRY(silence_ipv6(name_));
  CTD_TRY(set_forwarding(name_, CTD_IPV4, false));
  CTD_TRY(set_forwarding(name_, CTD_IPV6, false));

  const NlSocket socket = CTD_TRY(open_route_socket());
  rtnl_link* raw = nullptr;
  if (const int error = rtnl_link_get_kernel(socket.get(), 0, name_.c_str(), &raw)) return fail_nl(error, "look up");
  const NlLink link(raw);
  const NlLink wanted(rtnl_link_alloc());
  rtnl_link_set_mtu(wanted.get(), kMtu);
  rtnl_link_set_txqlen(wanted.get(), kQueueLength);
  rtnl_link_unset_flags(wanted.get(), IFF_MULTICAST);
  rtnl_link_set_flags(wanted.get(), IFF_NOARP | IFF_UP);
  if (const int error = rtnl_link_change(socket.get(), link.get(), wanted.get(), 0)) return fail_nl(error, "set up");
  ifindex_ = static_cast<u32>(rtnl_link_get_ifindex(link.get()));
  return {};
}

Result<> Tap::remove(const std::string& name) {
  const NlSocket socket = CTD_TRY(open_route_socket());
  rtnl_link* raw = nullptr;
  int error = rtnl_link_get_kernel(socket.get(), 0, name.c_str(), &raw);
  if (error == -NLE_NODEV || error == -NLE_OBJ_NOTFOUND) return {};
  if (error) return fail_nl(error, "device {}", name);
  const NlLink link(raw);
  const char* kind = rtnl_link_get_type(link.get());
  if (!kind || std::strcmp(kind, "tun") != 0) return fail("device {}: not removed, it is no tap", name);
  error = rtnl_link_delete(socket.get(), link.get());
  if (error && error != -NLE_NODEV) return fail_nl(error, "remove device {}", name);
  return {};
}

}  // namespace ctd
