// SPDX-License-Identifier: Apache-2.0
#include "daemon/netlink.hpp"

#include <algorithm>

#include <net/if_arp.h>
#include <poll.h>

#include "daemon/sysctl.hpp"
#include "lib/addr.hpp"
#include "prog/netns.hpp"

namespace ctd {
namespace {

class NetlinkTest : public NetnsTest {
 protected:
  void SetUp() override {
    NetnsTest::SetUp();
    // No duplicate address detection: addresses are usable at once.
    ASSERT_TRUE(write_sysctl("net/ipv6/conf/default/accept_dad", "0"));
    sh("ip link add t0 type veth peer name t1");
    sh("ip link set t1 address 02:00:00:00:00:01 mtu 1400 && ip link set t0 up && ip link set t1 up");
  }
  static NetWatch watch() {
    Result<NetWatch> opened = NetWatch::open();
    if (!opened) ADD_FAILURE() << opened.error().message();
    return std::move(opened).value();
  }
  static NetSnapshot look(NetWatch& net) {
    Result<NetSnapshot> snapshot = net.snapshot();
    EXPECT_TRUE(snapshot) << snapshot.error().message();
    return std::move(snapshot).value();
  }
  // Events are there when the command that caused them has returned.
  static Changes changes(NetWatch& net) {
    Result<Changes> drained = net.drain();
    EXPECT_TRUE(drained) << drained.error().message();
    return *drained;
  }
  // Until nothing more comes: the kernel's own late events (carrier, IPv6 set-up).
  static void settle(NetWatch& net) {
    pollfd ready{net.fd(), POLLIN, 0};
    while (poll(&ready, 1, 300) == 1) changes(net);
  }
  static std::vector<std::string> texts(const std::vector<HostAddress>& addresses) {
    std::vector<std::string> all;
    for (const HostAddress& a : addresses)
      all.push_back(fmt::format("{}/{}", address_text(a.addr, a.family), a.prefix_len));
    std::ranges::sort(all);
    return all;
  }
  static bool has(const std::vector<HostAddress>& addresses, const std::string& text) {
    return std::ranges::count(texts(addresses), text) > 0;
  }
};

TEST_F(NetlinkTest, LinksAsTheyAre) {
  sh("ip link add br0 type bridge && ip link set t0 master br0");
  sh("ip link add link t1 name mv0 type macvlan 2>/dev/null || true");
  ASSERT_TRUE(set_forwarding("t1", CTD_IPV4, true));
  NetWatch net = watch();
  const NetSnapshot snapshot = look(net);
  const LinkInfo* t1 = snapshot.find("t1");
  ASSERT_NE(t1, nullptr);
  EXPECT_EQ(t1->ifindex, ifindex("t1"));
  EXPECT_EQ(snapshot.find(ifindex("t1")), t1);
  EXPECT_EQ(t1->kind, "veth");
  EXPECT_EQ(t1->mtu, 1400u);
  EXPECT_EQ(t1->mac, (std::array<u8, 6>{2, 0, 0, 0, 0, 1}));
  EXPECT_TRUE(t1->up);
  EXPECT_EQ(t1->type, unsigned{ARPHRD_ETHER});
  EXPECT_EQ(t1->master, 0u);
  EXPECT_EQ(t1->lower, 0u);
  EXPECT_TRUE(t1->forwarding4);
  EXPECT_FALSE(t1->forwarding6);
  EXPECT_EQ(snapshot.find("t0")->master, ifindex("br0"));
  EXPECT_FALSE(snapshot.find("br0")->up);
  EXPECT_EQ(snapshot.find("lo")->type, unsigned{ARPHRD_LOOPBACK});
  if (const LinkInfo* macvlan = snapshot.find("mv0")) {
    EXPECT_EQ(macvlan->lower, ifindex("t1"));
  }
  EXPECT_EQ(snapshot.find("none"), nullptr);
}

TEST_F(NetlinkTest, AddressesOfALinkAndOfTheHost) {
  sh("ip addr add 192.0.2.1/24 brd + dev t1 && ip addr add 192.0.2.2/24 dev t1 && ip addr add 198.51.100.1/32 dev t1");
  sh("ip addr add fd00::1/64 dev t1 && ip addr add 2001:db8::1/64 dev t1");
  sh("ip addr add 2001:db8::2/64 dev t1 preferred_lft 0");
  sh("ip route add local 203.0.113.0/28 dev lo");
  // A route that is none of the host's own: of another table.
  sh("ip route add 10.0.0.0/8 via 192.0.2.254");
  NetWatch net = watch();
  const NetSnapshot snapshot = look(net);
  const LinkInfo* t1 = snapshot.find("t1");
  ASSERT_NE(t1, nullptr);
  EXPECT_EQ(address_text(ctd_addr{{t1->addr4}}, CTD_IPV4), "192.0.2.1");
  EXPECT_EQ(address_text(t1->addr6, CTD_IPV6), "2001:db8::1");
  EXPECT_EQ(address_text(t1->addr6_ll, CTD_IPV6), "fe80::ff:fe00:1");
  for (const char* address :
       {"127.0.0.0/8", "127.0.0.1/32", "192.0.2.1/32", "192.0.2.2/32", "198.51.100.1/32", "203.0.113.0/28", "::1/128",
        "fd00::1/128", "2001:db8::1/128", "2001:db8::2/128", "fe80::ff:fe00:1/128"})
    EXPECT_TRUE(has(snapshot.local, address)) << address;
  EXPECT_FALSE(has(snapshot.local, "10.0.0.0/8"));
  EXPECT_TRUE(has(snapshot.broadcasts, "192.0.2.255/32"));
  EXPECT_FALSE(has(snapshot.local, "192.0.2.255/32"));
  const auto own = std::ranges::find(snapshot.local, ifindex("t1"), &HostAddress::ifindex);
  EXPECT_NE(own, snapshot.local.end());
}

TEST_F(NetlinkTest, EachChangeIsToldByItsKind) {
  sh("ip addr add 192.0.2.1/24 dev t1");
  NetWatch net = watch();
  settle(net);
  EXPECT_FALSE(changes(net).any());

  sh("ip addr add 192.0.2.9/24 dev t1");
  EXPECT_TRUE(changes(net).addresses);
  sh("ip route add 10.0.0.0/8 via 192.0.2.254");
  Changes seen = changes(net);
  EXPECT_TRUE(seen.routes);
  EXPECT_FALSE(seen.addresses || seen.links || seen.neighbours);
  sh("ip route add local 203.0.113.0/28 dev lo");
  EXPECT_TRUE(changes(net).addresses);
  sh("ip rule add pref 100 from 10.9.0.0/16 lookup main");
  EXPECT_TRUE(changes(net).routes);
  sh("ip link set t1 mtu 1300");
  EXPECT_TRUE(changes(net).links);
  ASSERT_TRUE(set_forwarding("t1", CTD_IPV4, true));
  seen = changes(net);
  EXPECT_TRUE(seen.links);
  EXPECT_FALSE(seen.neighbours);
  sh("ip link del t1");
  EXPECT_TRUE(changes(net).links);
  EXPECT_EQ(look(net).find("t1"), nullptr);
}

TEST_F(NetlinkTest, OnlyNeighbourEventsThatMatter) {
  sh("ip addr add 192.0.2.1/24 dev t1");
  sh("ip neigh add 192.0.2.50 lladdr 02:00:00:00:00:50 dev t1 nud stale");
  NetWatch net = watch();
  settle(net);
  const auto after = [&](const char* command) {
    sh(fmt::format("ip neigh {} dev t1", command));
    return changes(net).neighbours;
  };
  // Known from before the watch.
  EXPECT_FALSE(after("replace 192.0.2.50 lladdr 02:00:00:00:00:50 nud reachable"));
  EXPECT_TRUE(after("replace 192.0.2.50 lladdr 02:00:00:00:00:51 nud reachable"));
  EXPECT_FALSE(after("replace 192.0.2.50 lladdr 02:00:00:00:00:51 nud stale"));
  EXPECT_TRUE(after("replace 192.0.2.60 lladdr 02:00:00:00:00:60 nud permanent"));
  EXPECT_TRUE(after("replace 192.0.2.60 nud failed"));
  EXPECT_FALSE(after("del 192.0.2.60"));
  EXPECT_TRUE(after("del 192.0.2.50"));
  EXPECT_TRUE(after("add 2001:db8::5 lladdr 02:00:00:00:00:05 nud permanent"));
}

TEST_F(NetlinkTest, LostEventsAreMadeUpFor) {
  sh("ip addr add 192.0.2.1/24 dev t1");
  NetWatch net = watch();
  settle(net);
  const int small = 1;  // the kernel's least
  ASSERT_EQ(setsockopt(net.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
  sh("for i in $(seq 1 60); do echo route add 10.$i.0.0/16 via 192.0.2.254; done | ip -batch -");
  sh("ip neigh add 192.0.2.50 lladdr 02:00:00:00:00:50 dev t1 nud permanent");
  const Changes seen = changes(net);
  EXPECT_TRUE(seen.lost);
  EXPECT_TRUE(seen.links && seen.addresses && seen.routes && seen.neighbours);

  const int large = 1 << 20;
  ASSERT_EQ(setsockopt(net.fd(), SOL_SOCKET, SO_RCVBUF, &large, sizeof(large)), 0);
  settle(net);
  // The neighbour whose event was lost is known by now.
  sh("ip neigh replace 192.0.2.50 lladdr 02:00:00:00:00:50 dev t1 nud stale");
  EXPECT_FALSE(changes(net).any());
}

TEST_F(NetlinkTest, GlobalForwarding) {
  EXPECT_FALSE(global_forwarding(CTD_IPV4).value());
  ASSERT_TRUE(write_sysctl("net/ipv4/ip_forward", "1"));
  EXPECT_TRUE(global_forwarding(CTD_IPV4).value());
  EXPECT_FALSE(global_forwarding(CTD_IPV6).value());
  ASSERT_TRUE(write_sysctl("net/ipv6/conf/all/forwarding", "1"));
  EXPECT_TRUE(global_forwarding(CTD_IPV6).value());
  EXPECT_FALSE(get_forwarding("none", CTD_IPV4).value());
  EXPECT_FALSE(set_forwarding("none", CTD_IPV4, true));
}

}  // namespace
}  // namespace ctd
