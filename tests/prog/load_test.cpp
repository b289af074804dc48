// SPDX-License-Identifier: Apache-2.0
// Every object passes the running kernel's verifier, as it is in the file and as userspace configures it. The tests
// have `Load` in their names: these alone run on the oldest kernel that is supported, too.
#include <memory>

#include <bpf/libbpf.h>

#include "daemon/datapath.hpp"
#include "datapath.skel.h"
#include "prog/netns.hpp"
#include "xdp.skel.h"

namespace ctd {
namespace {

struct Destroy {
  void operator()(datapath_bpf* skeleton) const { datapath_bpf__destroy(skeleton); }
  void operator()(xdp_bpf* skeleton) const { xdp_bpf__destroy(skeleton); }
};
using DatapathSkeleton = std::unique_ptr<datapath_bpf, Destroy>;
using XdpSkeleton = std::unique_ptr<xdp_bpf, Destroy>;

constexpr ctd_config kConfig{.seed = 0x0123456789abcdef,
                             .token = 0xfedcba9876543210,
                             .hz = 1000,
                             .conn_capacity = 100000,
                             .tap_ifindex = 7,
                             .icmp_rate = 1};

// Programs in the object that the kernel has.
int loaded_programs(const bpf_object* object) {
  int n = 0;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    EXPECT_GE(bpf_program__fd(program), 0) << bpf_program__name(program);
    n++;
  }
  return n;
}

// The maps of the table for `conns` connections, whichever of them the object has.
void set_sizes(bpf_object* object, u32 conns) {
  for (const char* name :
       {"ct_tuple4", "ct_tuple6", "ct_conn", "ct_check", "ct_ring", "ct_cache4", "ct_cache6", "flow_index", "flows"}) {
    bpf_map* map = bpf_object__find_map_by_name(object, name);
    if (map) {
      EXPECT_EQ(bpf_map__set_max_entries(map, 2 * conns), 0) << name;
    }
  }
}

TEST(LoadTest, LoadDatapathAsItIs) {
  const DatapathSkeleton skeleton(datapath_bpf__open());
  ASSERT_TRUE(skeleton);
  ASSERT_EQ(datapath_bpf__load(skeleton.get()), 0);
  EXPECT_EQ(loaded_programs(skeleton->obj), 16);
}

TEST(LoadTest, LoadDatapathConfigured) {
  const DatapathSkeleton skeleton(datapath_bpf__open());
  ASSERT_TRUE(skeleton);
  skeleton->rodata->ctd_config = kConfig;
  set_sizes(skeleton->obj, kConfig.conn_capacity);
  ASSERT_EQ(datapath_bpf__load(skeleton.get()), 0);
  EXPECT_EQ(loaded_programs(skeleton->obj), 16);
}

TEST(LoadTest, LoadXdpAsItIs) {
  const XdpSkeleton skeleton(xdp_bpf__open_and_load());
  ASSERT_TRUE(skeleton);
  EXPECT_EQ(loaded_programs(skeleton->obj), 1);
}

TEST(LoadTest, LoadXdpConfigured) {
  const XdpSkeleton skeleton(xdp_bpf__open());
  ASSERT_TRUE(skeleton);
  skeleton->rodata->ctd_config = kConfig;
  set_sizes(skeleton->obj, kConfig.conn_capacity);
  ASSERT_EQ(xdp_bpf__load(skeleton.get()), 0);
  EXPECT_EQ(loaded_programs(skeleton->obj), 1);
}

// As the daemon does: pinned, with its sizes, the stages in force and the sweep running.
class LoadDatapathTest : public NetnsTest {};

TEST_F(LoadDatapathTest, LoadByTheDaemonsOwnClass) {
  const Result<JiffiesClock> clock = JiffiesClock::open();
  ASSERT_TRUE(clock) << clock.error().message();
  const auto dp = Datapath::open(
      {.pins = bpffs_folder(), .conn_capacity = 262144, .flow_capacity = 65536, .tap_ifindex = 7}, *clock);
  ASSERT_TRUE(dp) << dp.error().message();
  const Result<> started = (*dp)->start();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(wait_for([&] { return __atomic_load_n(&(*dp)->rt()->sweeps, __ATOMIC_RELAXED) > 2; }));
}

}  // namespace
}  // namespace ctd
