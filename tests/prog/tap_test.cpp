// SPDX-License-Identifier: Apache-2.0
#include "daemon/tap.hpp"

#include <cerrno>
#include <cstddef>
#include <iterator>

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <poll.h>
#include <unistd.h>

#include "daemon/attach.hpp"
#include "daemon/sysctl.hpp"
#include "prog/netns.hpp"

namespace ctd {
namespace {

using TapTest = NetnsTest;

TEST_F(TapTest, NameFitsADevice) {
  EXPECT_EQ(Tap::device_name("default"), "ctd-default");
  EXPECT_EQ(Tap::device_name("elevenchars"), "ctd-elevenchars");
  const std::string hashed = Tap::device_name("twelve-chars");
  EXPECT_EQ(hashed.size(), 12u);
  EXPECT_TRUE(hashed.starts_with("ctd-"));
  EXPECT_NE(hashed, Tap::device_name("twelve-char2"));
}

TEST_F(TapTest, IsUpAndSilent) {
  const Result<Tap> tap = Tap::open("default");
  ASSERT_TRUE(tap) << tap.error().message();
  EXPECT_EQ(tap->ifindex(), ifindex("ctd-default"));
  EXPECT_TRUE(succeeds("ip link show ctd-default | grep -q 'mtu 65521.*qlen 4096'"));
  EXPECT_TRUE(succeeds("ip link show ctd-default | grep -q 'NOARP,UP'"));
  EXPECT_FALSE(succeeds("ip link show ctd-default | grep -q '[<,]MULTICAST'"));
  EXPECT_FALSE(succeeds("ip -6 addr show dev ctd-default | grep -q inet6"));
  EXPECT_TRUE(succeeds("ip -d link show ctd-default | grep -q 'tap.*vnet_hdr on persist on'"));
  const Result<bool> forwards = get_forwarding("ctd-default", CTD_IPV4);
  ASSERT_TRUE(forwards);
  EXPECT_FALSE(*forwards);

  // Nothing to read, and read() does not block.
  char byte;
  EXPECT_EQ(read(tap->fd(), &byte, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(TapTest, StaysOffWhereForwardingIsOn) {
  ASSERT_TRUE(write_sysctl("net/ipv4/ip_forward", "1"));
  ASSERT_TRUE(write_sysctl("net/ipv6/conf/all/forwarding", "1"));
  const Result<Tap> tap = Tap::open("default");
  ASSERT_TRUE(tap) << tap.error().message();
  for (const ctd_family family : {CTD_IPV4, CTD_IPV6}) {
    EXPECT_TRUE(global_forwarding(family).value());
    EXPECT_FALSE(get_forwarding(tap->name(), family).value());
  }
}

TEST_F(TapTest, OutlivesItsOwnerAndIsTakenOver) {
  u32 before = 0;
  {
    const Result<Tap> tap = Tap::open("default");
    ASSERT_TRUE(tap) << tap.error().message();
    before = tap->ifindex();
  }
  EXPECT_EQ(ifindex("ctd-default"), before);
  const Result<Tap> again = Tap::open("default");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->ifindex(), before);
}

TEST_F(TapTest, SecondOwnerIsRefused) {
  const Result<Tap> tap = Tap::open("default");
  ASSERT_TRUE(tap) << tap.error().message();
  const Result<Tap> second = Tap::open("default");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), EBUSY);
  EXPECT_TRUE(second.error().message().starts_with("device ctd-default: another process")) << second.error().message();
}

TEST_F(TapTest, DeviceOfAnotherKindIsLeftAlone) {
  sh("ip link add ctd-default type veth peer name other");
  const Result<Tap> tap = Tap::open("default");
  ASSERT_FALSE(tap);
  EXPECT_NE(tap.error().message().find("that is no tap"), std::string::npos) << tap.error().message();
  EXPECT_FALSE(Tap::remove("ctd-default"));
  EXPECT_NE(ifindex("ctd-default"), 0u);
}

TEST_F(TapTest, RemoveAlsoWhileOpen) {
  const Result<Tap> tap = Tap::open("default");
  ASSERT_TRUE(tap) << tap.error().message();
  const Result<> removed = Tap::remove("ctd-default");
  EXPECT_TRUE(removed) << removed.error().message();
  EXPECT_EQ(ifindex("ctd-default"), 0u);
  EXPECT_TRUE(Tap::remove("ctd-default"));  // nothing there any more
}

// A frame with a vnet header goes in and out as one piece.
TEST_F(TapTest, CarriesFramesBothWays) {
  const Result<Tap> tap = Tap::open("default");
  ASSERT_TRUE(tap) << tap.error().message();
  const bpf_insn back_out[] = {
      {BPF_LDX | BPF_MEM | BPF_W, 1, 1, offsetof(__sk_buff, ifindex), 0},
      {BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0},
      {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  const Fd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "back_out", "GPL", back_out, std::size(back_out), nullptr));
  ASSERT_TRUE(program);
  ASSERT_TRUE(attach({tap->name(), tap->ifindex(), Hook::ingress, bpffs_folder() + "/in"}, program.get()));
  std::string out(sizeof(VnetHeader), '\0');
  out += std::string(12, '\x02') + "\x88\xb5" + std::string(60000, 'x');
  ASSERT_EQ(write(tap->fd(), out.data(), out.size()), static_cast<ssize_t>(out.size()));
  pollfd ready{tap->fd(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, 5000), 1);
  std::string in(70000, '\0');
  const ssize_t size = read(tap->fd(), in.data(), in.size());
  ASSERT_EQ(size, static_cast<ssize_t>(out.size()));
  in.resize(static_cast<std::size_t>(size));
  EXPECT_EQ(in.substr(sizeof(VnetHeader)), out.substr(sizeof(VnetHeader)));
}

}  // namespace
}  // namespace ctd
