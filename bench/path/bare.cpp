// SPDX-License-Identifier: Apache-2.0
#include "bare.hpp"

#include <netinet/ether.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "attach.hpp"
#include "bench_bare.h"
#include "bench_bare.skel.h"

namespace ctd::bench {

namespace {

struct Skeleton {
  void operator()(bench_bare_bpf* skeleton) const { bench_bare_bpf__destroy(skeleton); }
};

Result<bare_hop> hop_to(unsigned ifindex, const std::string& mac) {
  const ether_addr* address = ::ether_aton(mac.c_str());
  if (!address) return fail("\"{}\" is no Ethernet address", mac);
  bare_hop hop{.ifindex = ifindex};
  std::memcpy(hop.dest, address->ether_addr_octet, sizeof(hop.dest));
  hop.source[0] = 0x02;  // locally administered; receivers do not look at it
  hop.source[5] = 0xfe;
  return hop;
}

void wait_for_end_of_input() {
  char byte;
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
    if (got == 0 || (got < 0 && errno != EINTR)) return;
  }
}

}  // namespace

Result<void> run_bare(const BareOptions& options) {
  CTD_TRY(enter_netns(options.netns));
  const unsigned lan = CTD_TRY(device_index(options.lan));
  const unsigned wan = CTD_TRY(device_index(options.wan));

  std::unique_ptr<bench_bare_bpf, Skeleton> skeleton(bench_bare_bpf__open());
  if (!skeleton) return fail_errno(errno, "opening the redirect program");
  bare_config& config = skeleton->rodata->bare_config;
  config.lan_ifindex = lan;
  config.to_wan = CTD_TRY(hop_to(wan, options.wan_mac));
  config.to_lan = CTD_TRY(hop_to(lan, options.lan_mac));
  if (int err = bench_bare_bpf__load(skeleton.get())) return fail_errno(err, "loading the redirect program");

  const TcIngress on_lan = CTD_TRY(TcIngress::attach(skeleton->progs.bare_redirect, lan));
  const TcIngress on_wan = CTD_TRY(TcIngress::attach(skeleton->progs.bare_redirect, wan));
  std::puts("ready");
  std::fflush(stdout);
  wait_for_end_of_input();
  return {};
}

}  // namespace ctd::bench
