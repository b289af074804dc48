// SPDX-License-Identifier: Apache-2.0
#include "prog/xdp_find.hpp"

#include <cstring>
#include <stdexcept>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <unistd.h>

#include "daemon/fd.hpp"
#include "xdp.skel.h"

namespace ctd::test {
namespace {

// xdp_result fields are not otherwise visible to userspace.
CTD_ASSERT_SIZE(XdpFind::Found, 16);

}  // namespace

void XdpFind::Close::operator()(xdp_bpf* skeleton) const { xdp_bpf__destroy(skeleton); }

void XdpFind::open(const std::string& pins, const Datapath& dp) {
  skeleton_.reset(xdp_bpf__open());
  if (!skeleton_) throw std::runtime_error("opening the XDP object");
  skeleton_->rodata->ctd_config = {.seed = dp.meta().seed,
                                   .token = dp.meta().token,
                                   .hz = dp.meta().hz,
                                   .conn_capacity = dp.meta().conn_capacity,
                                   .tap_ifindex = dp.meta().tap_ifindex,
                                   .icmp_rate = 1000};
  unsigned shared = 0;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    const Fd pinned(bpf_obj_get(fmt::format("{}/{}", pins, bpf_map__name(map)).c_str()));
    if (!pinned) continue;
    if (bpf_map__reuse_fd(map, pinned.get())) throw std::runtime_error("sharing a map");
    shared++;
  }
  if (!shared) throw std::runtime_error("no map is shared with the datapath");
  if (const int error = xdp_bpf__load(skeleton_.get())) {
    throw std::runtime_error(fmt::format("loading the XDP object: {}", strerror(-error)));
  }
}

XdpFind::Found XdpFind::find(const Packet& packet) const {
  // The result stands under the CPU that ran it: those of the others are erased first.
  const int cpus = libbpf_num_possible_cpus();
  constexpr u32 kNobody = ~0u;
  const u32 zero = 0;
  std::vector<Found> results(static_cast<std::size_t>(cpus), Found{.reason = kNobody});
  const int results_fd = bpf_map__fd(skeleton_->maps.xdp_results);
  if (bpf_map_update_elem(results_fd, &zero, results.data(), BPF_ANY)) throw std::runtime_error("erasing xdp_results");
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.bytes.data(),
              .data_size_in = static_cast<u32>(packet.bytes.size()));
  if (const int error = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.ctd_xdp_find), &options)) {
    throw std::runtime_error(fmt::format("XDP test run with {} bytes: {}", packet.bytes.size(), strerror(-error)));
  }
  if (options.retval != XDP_PASS) throw std::runtime_error(fmt::format("XDP verdict {}", options.retval));
  if (bpf_map_lookup_elem(results_fd, &zero, results.data())) throw std::runtime_error("reading xdp_results");
  for (const Found& found : results) {
    if (found.reason != kNobody) return found;
  }
  throw std::runtime_error("the XDP program said nothing");
}

}  // namespace ctd::test
