// SPDX-License-Identifier: Apache-2.0
#include "attach.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <bpf/bpf.h>

namespace ctd::bench {

namespace {

// BPF_TCX_INGRESS; the UAPI headers of Debian 12 are older than TCX.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

Result<void> attach_clsact(const bpf_program* program, unsigned ifindex) {
  LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex), .attach_point = BPF_TC_INGRESS);
  if (int err = bpf_tc_hook_create(&hook); err && err != -EEXIST)
    return fail_errno(err, "clsact on device {}", ifindex);
  LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(program));
  if (int err = bpf_tc_attach(&hook, &opts)) return fail_errno(err, "filter on device {}", ifindex);
  return {};
}

}  // namespace

Result<void> enter_netns(const std::string& name) {
  const std::string path = "/run/netns/" + name;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "network namespace {}", path);
  const int err = ::setns(fd, CLONE_NEWNET) ? errno : 0;
  ::close(fd);
  if (err) return fail_errno(err, "entering network namespace {}", path);
  return {};
}

Result<unsigned> device_index(const std::string& name) {
  const unsigned index = ::if_nametoindex(name.c_str());
  if (!index) return fail_errno(errno, "device {}", name);
  return index;
}

Result<XdpLink> attach_xdp(const bpf_program* program, unsigned ifindex) {
  XdpLink link(bpf_program__attach_xdp(program, static_cast<int>(ifindex)));
  if (!link) return fail_errno(errno, "XDP on device {}", ifindex);
  return link;
}

Result<TcIngress> TcIngress::attach(const bpf_program* program, unsigned ifindex) {
  const int fd = bpf_link_create(bpf_program__fd(program), static_cast<int>(ifindex), kTcxIngress, nullptr);
  if (fd >= 0) return TcIngress(fd, 0);
  CTD_TRY(attach_clsact(program, ifindex));
  return TcIngress(-1, ifindex);
}

TcIngress::TcIngress(TcIngress&& other) noexcept
    : link_fd_(std::exchange(other.link_fd_, -1)), clsact_ifindex_(std::exchange(other.clsact_ifindex_, 0)) {}

TcIngress::~TcIngress() {
  if (link_fd_ >= 0) ::close(link_fd_);
  if (clsact_ifindex_) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(clsact_ifindex_),
                .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    bpf_tc_hook_destroy(&hook);
  }
}

}  // namespace ctd::bench
