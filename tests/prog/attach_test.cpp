// SPDX-License-Identifier: Apache-2.0
#include "daemon/attach.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include "prog/netns.hpp"

namespace ctd {
namespace {

// A program that counts packets whose EtherType is the tests' own, and passes all.
class Counter {
 public:
  Counter() {
    map_ = Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "count", 4, 8, 1, nullptr));
    constexpr u16 kType = 0x88b5;
    const bpf_insn program[] = {
        {BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(__sk_buff, protocol), 0},
        {BPF_JMP | BPF_JNE | BPF_K, 2, 0, 4, htons(kType)},
        {BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_VALUE, 0, map_.get()},
        {0, 0, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1},
        {BPF_STX | BPF_ATOMIC | BPF_DW, 1, 2, 0, BPF_ADD},
        {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    prog_ = Fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "counter", "GPL", program, std::size(program), nullptr));
    EXPECT_TRUE(prog_);
    bpf_prog_info info{};
    u32 size = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(prog_.get(), &info, &size), 0);
    id_ = info.id;
  }
  int fd() const { return prog_.get(); }
  u32 id() const { return id_; }
  u64 count() const {
    const u32 key = 0;
    u64 value = 0;
    EXPECT_EQ(bpf_map_lookup_elem(map_.get(), &key, &value), 0);
    return value;
  }

 private:
  Fd map_;
  Fd prog_;
  u32 id_ = 0;
};

class FrameSender {
 public:
  explicit FrameSender(u32 ifindex) : socket_(socket(AF_PACKET, SOCK_RAW, 0)) {
    to_.sll_family = AF_PACKET;
    to_.sll_ifindex = static_cast<int>(ifindex);
    frame_.fill(0xff);
    frame_[12] = 0x88;
    frame_[13] = 0xb5;
  }
  bool send() {
    return sendto(socket_.get(), frame_.data(), frame_.size(), 0, reinterpret_cast<const sockaddr*>(&to_),
                  sizeof(to_)) == static_cast<ssize_t>(frame_.size());
  }

 private:
  Fd socket_;
  sockaddr_ll to_{};
  std::array<u8, 64> frame_{};
};

class AttachTest : public NetnsTest, public ::testing::WithParamInterface<Mechanism> {
 protected:
  void SetUp() override {
    if (GetParam() == Mechanism::tcx && !have_tcx()) GTEST_SKIP() << "this kernel has no TCX links";
    NetnsTest::SetUp();
    make_veth();
  }
  void make_veth() {
    sh("ip link add t0 type veth peer name t1");
    sh("ip link set t0 up && ip link set t1 up");
    ASSERT_TRUE(wait_for([] { return succeeds("ip link show t0 | grep -q LOWER_UP"); }));
  }
  Attachment at(Hook hook) {
    return {"t1", ifindex("t1"), hook, bpffs_folder() + (hook == Hook::ingress ? "/in" : "/out")};
  }
  static u32 attached(const Attachment& where) {
    const Result<u32> id = attached_program(where, GetParam());
    EXPECT_TRUE(id) << id.error().message();
    return id ? *id : ~0u;
  }
  static void attach_ok(const Attachment& where, const Counter& counter) {
    const Result<> done = attach(where, counter.fd(), GetParam());
    ASSERT_TRUE(done) << done.error().message();
  }
  static void detach_ok(const Attachment& where) {
    const Result<> done = detach(where, GetParam());
    ASSERT_TRUE(done) << done.error().message();
  }
};

TEST_P(AttachTest, ProgramRunsAndIsGoneAfterDetach) {
  Counter in;
  Counter out;
  attach_ok(at(Hook::ingress), in);
  attach_ok(at(Hook::egress), out);
  EXPECT_EQ(attached(at(Hook::ingress)), in.id());
  EXPECT_EQ(attached(at(Hook::egress)), out.id());

  ASSERT_TRUE(FrameSender(ifindex("t0")).send());
  EXPECT_TRUE(wait_for([&] { return in.count() == 1; }));
  EXPECT_EQ(out.count(), 0u);
  ASSERT_TRUE(FrameSender(ifindex("t1")).send());
  EXPECT_TRUE(wait_for([&] { return out.count() == 1; }));

  detach_ok(at(Hook::ingress));
  EXPECT_EQ(attached(at(Hook::ingress)), 0u);
  EXPECT_EQ(attached(at(Hook::egress)), out.id());
  detach_ok(at(Hook::egress));
  detach_ok(at(Hook::egress));  // nothing there any more
  EXPECT_FALSE(succeeds("tc qdisc show dev t1 | grep -q clsact"));
  EXPECT_TRUE(std::filesystem::is_empty(bpffs_folder()));
}

TEST_P(AttachTest, ReplacingLosesNoPacket) {
  constexpr u64 kFrames = 20000;
  constexpr u64 kWindow = 100;  // frames on their way, far below the receive backlog
  const Counter one;
  const Counter two;
  const auto seen = [&] { return one.count() + two.count(); };
  attach_ok(at(Hook::ingress), one);
  const Attachment where = at(Hook::ingress);
  std::atomic<bool> done = false;
  std::atomic<int> replaced = 0;

  FrameSender sender(ifindex("t0"));
  std::thread traffic([&] {
    for (u64 sent = 0; sent < kFrames;) {
      EXPECT_TRUE(sender.send());
      if (++sent % kWindow == 0 && !wait_for([&] { return seen() == sent; })) break;
    }
    done = true;
  });
  while (!done) {
    const Counter& next = replaced % 2 ? one : two;
    const Result<> swapped = attach(where, next.fd(), GetParam());
    EXPECT_TRUE(swapped);
    if (!swapped) break;
    replaced++;
  }
  traffic.join();
  EXPECT_EQ(seen(), kFrames);
  EXPECT_GT(replaced, 10);
  EXPECT_GT(one.count(), 0u);
  EXPECT_GT(two.count(), 0u);
}

TEST_P(AttachTest, DeviceThatWasMadeAnewIsAttachedAgain) {
  const Counter counter;
  const Attachment old = at(Hook::ingress);
  attach_ok(old, counter);
  sh("ip link del t1");
  EXPECT_EQ(attached(old), 0u);
  make_veth();
  ASSERT_NE(old.ifindex, ifindex("t1"));

  attach_ok(at(Hook::ingress), counter);
  EXPECT_EQ(attached(at(Hook::ingress)), counter.id());
  ASSERT_TRUE(FrameSender(ifindex("t0")).send());
  EXPECT_TRUE(wait_for([&] { return counter.count() == 1; }));
  detach_ok(at(Hook::ingress));
}

TEST_P(AttachTest, DetachOfDeviceThatIsGone) {
  const Counter counter;
  const Attachment old = at(Hook::ingress);
  attach_ok(old, counter);
  sh("ip link del t1");
  detach_ok(old);
  EXPECT_TRUE(std::filesystem::is_empty(bpffs_folder()));
}

TEST_P(AttachTest, NoSuchDevice) {
  const Counter counter;
  Attachment nowhere = at(Hook::ingress);
  nowhere.ifindex = 12345;
  const Result<> done = attach(nowhere, counter.fd(), GetParam());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), ENODEV) << done.error().message();
  EXPECT_TRUE(done.error().message().starts_with("attach to t1 ingress: ")) << done.error().message();
  EXPECT_TRUE(std::filesystem::is_empty(bpffs_folder()));
}

// The qdisc and filters of others outlive ours.
TEST_P(AttachTest, ForeignClsactStays) {
  const Counter counter;
  sh("tc qdisc add dev t1 clsact");
  attach_ok(at(Hook::ingress), counter);
  detach_ok(at(Hook::ingress));
  EXPECT_EQ(attached(at(Hook::ingress)), 0u);
  detach_ok(at(Hook::ingress));
  EXPECT_TRUE(succeeds("tc qdisc show dev t1 | grep -q clsact"));
}

TEST_P(AttachTest, ForeignFilterStays) {
  const Counter counter;
  attach_ok(at(Hook::ingress), counter);
  if (GetParam() == Mechanism::tcx) sh("tc qdisc add dev t1 clsact");
  sh("tc filter add dev t1 egress protocol all pref 7 u32 match u32 0 0");
  EXPECT_EQ(attached(at(Hook::egress)), 0u);
  detach_ok(at(Hook::egress));
  detach_ok(at(Hook::ingress));
  EXPECT_TRUE(succeeds("tc filter show dev t1 egress | grep -q 'pref 7 u32'"));
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, AttachTest, ::testing::Values(Mechanism::tcx, Mechanism::clsact),
                         [](const auto& tested) { return tested.param == Mechanism::tcx ? "tcx" : "clsact"; });

}  // namespace
}  // namespace ctd
