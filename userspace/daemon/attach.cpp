// SPDX-License-Identifier: Apache-2.0
#include "daemon/attach.hpp"

#include <cerrno>
#include <filesystem>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/pkt_sched.h>
#include <netlink/route/classifier.h>
#include <netlink/route/qdisc.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/fd.hpp"
#include "daemon/nl.hpp"

namespace ctd {
namespace {

// Of <linux/bpf.h> since 6.6; the headers that we build with may be older.
constexpr u32 kTcxIngress = 46;   // BPF_TCX_INGRESS
constexpr u32 kTcxEgress = 47;    // BPF_TCX_EGRESS
constexpr u32 kLinkTypeTcx = 11;  // BPF_LINK_TYPE_TCX

// struct bpf_link_info as far as TCX uses it.
struct TcxLinkInfo {
  u32 type = 0;
  u32 id = 0;
  u32 prog_id = 0;
  u32 pad = 0;
  u32 ifindex = 0;  // 0: the device is gone
  u32 attach_type = 0;
};

// One filter a hook is ours, found again by these.
constexpr u32 kFilterHandle = 0xc7d;
constexpr u32 kFilterPriority = 0xc7d;

u32 tcx_type(Hook hook) { return hook == Hook::ingress ? kTcxIngress : kTcxEgress; }
const char* hook_name(Hook hook) { return hook == Hook::ingress ? "ingress" : "egress"; }

int sys_bpf(bpf_cmd command, bpf_attr& attr) {
  return static_cast<int>(syscall(__NR_bpf, command, &attr, sizeof(attr)));
}

// None pinned: an empty Fd.
Result<Fd> open_pinned_link(const std::string& pin) {
  const int fd = bpf_obj_get(pin.c_str());
  if (fd >= 0) return Fd(fd);
  if (fd == -ENOENT) return Fd();
  return fail_errno(fd, "pinned link {}", pin);
}

Result<TcxLinkInfo> tcx_link_info(int link_fd) {
  TcxLinkInfo info;
  u32 size = sizeof(info);
  if (const int error = bpf_obj_get_info_by_fd(link_fd, &info, &size)) return fail_errno(error, "link information");
  return info;
}

bool is_at(const TcxLinkInfo& info, const Attachment& at) {
  return info.type == kLinkTypeTcx && info.ifindex == at.ifindex && info.attach_type == tcx_type(at.hook);
}

Result<Fd> create_tcx_link(const Attachment& at, int prog_fd) {
  bpf_attr attr{};
  attr.link_create.prog_fd = static_cast<u32>(prog_fd);
  attr.link_create.target_ifindex = at.ifindex;
  attr.link_create.attach_type = tcx_type(at.hook);
  const int fd = sys_bpf(BPF_LINK_CREATE, attr);
  if (fd < 0) return fail_errno(errno, "TCX link");
  return Fd(fd);
}

Result<> attach_tcx(const Attachment& at, int prog_fd) {
  const Fd pinned = CTD_TRY(open_pinned_link(at.link_pin));
  if (pinned) {
    if (is_at(CTD_TRY(tcx_link_info(pinned.get())), at)) {
      if (const int error = bpf_link_update(pinned.get(), prog_fd, nullptr))
        return fail_errno(error, "update of TCX link {}", at.link_pin);
      return {};
    }
    if (unlink(at.link_pin.c_str()) != 0) return fail_errno(errno, "link {} of another device", at.link_pin);
  }
  const Fd created = CTD_TRY(create_tcx_link(at, prog_fd));
  if (const int error = bpf_obj_pin(created.get(), at.link_pin.c_str()))
    return fail_errno(error, "pin TCX link as {}", at.link_pin);
  return {};
}

Result<> detach_tcx(const Attachment& at) {
  const Fd pinned = CTD_TRY(open_pinned_link(at.link_pin));
  if (!pinned) return {};
  // Not left to the last descriptor's close: somebody else may have the link open.
  if (const int error = bpf_link_detach(pinned.get())) return fail_errno(error, "detach TCX link {}", at.link_pin);
  if (unlink(at.link_pin.c_str()) != 0) return fail_errno(errno, "remove {}", at.link_pin);
  return {};
}

// The qdisc at the place that clsact and ingress share: its kind, or empty for none.
Result<std::string> hook_qdisc(nl_sock* socket, u32 ifindex) {
  nl_cache* raw = nullptr;
  if (const int error = rtnl_qdisc_alloc_cache(socket, &raw)) return fail_nl(error, "list of qdiscs");
  const NlCache qdiscs(raw);
  rtnl_qdisc* found = rtnl_qdisc_get_by_parent(raw, static_cast<int>(ifindex), TC_H_CLSACT);
  if (!found) return std::string();
  std::string kind = rtnl_tc_get_kind(TC_CAST(found));
  rtnl_qdisc_put(found);
  return kind;
}

Result<bool> has_filters(nl_sock* socket, const Attachment& at, Hook hook) {
  const u32 parent = TC_H_MAKE(TC_H_CLSACT, hook == Hook::ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
  nl_cache* raw = nullptr;
  if (const int error = rtnl_cls_alloc_cache(socket, static_cast<int>(at.ifindex), parent, &raw))
    return fail_nl(error, "list of filters");
  const NlCache filters(raw);
  return nl_cache_nitems(raw) > 0;
}

std::string clsact_mark(const Attachment& at) {
  return std::filesystem::path(at.link_pin).replace_filename(fmt::format("clsact_{}", at.ifindex));
}

bpf_tc_hook tc_hook(const Attachment& at) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(at.ifindex);
  hook.attach_point = at.hook == Hook::ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return hook;
}

bpf_tc_opts our_filter() {
  bpf_tc_opts opts{};
  opts.sz = sizeof(opts);
  opts.handle = kFilterHandle;
  opts.priority = kFilterPriority;
  return opts;
}

Result<> ensure_clsact(const Attachment& at) {
  const NlSocket socket = CTD_TRY(open_route_socket());
  const std::string kind = CTD_TRY(hook_qdisc(socket.get(), at.ifindex));
  if (kind == "ingress" && at.hook == Hook::egress)
    return fail("it has an ingress qdisc, which has no egress hook: replace it (tc qdisc del dev {} ingress)",
                at.device);
  if (!kind.empty()) return {};

  // Marked first: a qdisc of ours that nobody knows of would stay for ever.
  const std::string mark = clsact_mark(at);
  if (mkdir(mark.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "folder {}", mark);
  bpf_tc_hook hook = tc_hook(at);
  const int error = bpf_tc_hook_create(&hook);
  if (error == 0) return {};
  rmdir(mark.c_str());
  if (error == -EEXIST) return {};  // somebody was faster; it is theirs
  return fail_errno(error, "clsact qdisc");
}

Result<> attach_clsact(const Attachment& at, int prog_fd) {
  CTD_TRY(ensure_clsact(at));
  const bpf_tc_hook hook = tc_hook(at);
  bpf_tc_opts opts = our_filter();
  opts.prog_fd = prog_fd;
  opts.flags = BPF_TC_F_REPLACE;
  if (const int error = bpf_tc_attach(&hook, &opts)) return fail_errno(error, "clsact filter");
  return {};
}

// Errors of the kernel that mean: no such filter (or chain of filters), or no such device any more.
bool is_absent(int error) { return error == -ENOENT || error == -EINVAL || error == -ENODEV; }

Result<> remove_our_qdisc(nl_sock* socket, const Attachment& at) {
  if (CTD_TRY(has_filters(socket, at, Hook::ingress)) || CTD_TRY(has_filters(socket, at, Hook::egress))) return {};
  bpf_tc_hook hook = tc_hook(at);
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);  // both: the qdisc itself
  if (const int error = bpf_tc_hook_destroy(&hook); error && !is_absent(error))
    return fail_errno(error, "remove clsact qdisc");
  const std::string mark = clsact_mark(at);
  if (rmdir(mark.c_str()) != 0) return fail_errno(errno, "remove {}", mark);
  return {};
}

Result<> detach_clsact(const Attachment& at) {
  const NlSocket socket = CTD_TRY(open_route_socket());
  const std::string mark = clsact_mark(at);
  if (CTD_TRY(hook_qdisc(socket.get(), at.ifindex)).empty()) {
    if (rmdir(mark.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove {}", mark);
    return {};
  }
  if (CTD_TRY(has_filters(socket.get(), at, at.hook))) {
    const bpf_tc_hook hook = tc_hook(at);
    const bpf_tc_opts opts = our_filter();
    if (const int error = bpf_tc_detach(&hook, &opts); error && !is_absent(error))
      return fail_errno(error, "remove clsact filter");
  }
  if (!std::filesystem::exists(mark)) return {};
  return remove_our_qdisc(socket.get(), at);
}

Result<u32> clsact_program(const Attachment& at) {
  const NlSocket socket = CTD_TRY(open_route_socket());
  if (CTD_TRY(hook_qdisc(socket.get(), at.ifindex)).empty()) return 0u;
  if (!CTD_TRY(has_filters(socket.get(), at, at.hook))) return 0u;
  const bpf_tc_hook hook = tc_hook(at);
  bpf_tc_opts opts = our_filter();
  if (const int error = bpf_tc_query(&hook, &opts); error && !is_absent(error))
    return fail_errno(error, "clsact filter");
  return opts.prog_id;
}

Result<u32> tcx_program(const Attachment& at) {
  const Fd pinned = CTD_TRY(open_pinned_link(at.link_pin));
  if (!pinned) return 0u;
  const TcxLinkInfo info = CTD_TRY(tcx_link_info(pinned.get()));
  return is_at(info, at) ? info.prog_id : 0u;
}

}  // namespace

bool have_tcx() {
  // A kernel without TCX knows no such attach type and says EINVAL, whatever the device.
  static const bool have = [] {
    bpf_attr attr{};
    attr.query.target_fd = 1;  // an ifindex, for this attach type
    attr.query.attach_type = kTcxIngress;
    return sys_bpf(BPF_PROG_QUERY, attr) == 0 || errno == ENODEV;
  }();
  return have;
}

Result<> attach(const Attachment& at, int prog_fd, Mechanism mechanism) {
  return (mechanism == Mechanism::tcx ? attach_tcx(at, prog_fd) : attach_clsact(at, prog_fd))
      .context("attach to {} {}", at.device, hook_name(at.hook));
}

Result<> detach(const Attachment& at, Mechanism mechanism) {
  return (mechanism == Mechanism::tcx ? detach_tcx(at) : detach_clsact(at))
      .context("detach from {} {}", at.device, hook_name(at.hook));
}

Result<u32> attached_program(const Attachment& at, Mechanism mechanism) {
  return (mechanism == Mechanism::tcx ? tcx_program(at) : clsact_program(at))
      .context("program at {} {}", at.device, hook_name(at.hook));
}

Result<std::optional<u32>> pinned_link_device(const std::string& pin) {
  const Fd fd = CTD_TRY(open_pinned_link(pin));
  // Maps and programs are pinned as well, and answer with information of their own. The name of a link's file is
  // bpf_link or bpf-link, as the kernel is old or new.
  std::error_code error;
  const std::filesystem::path kind = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd.get()), error);
  if (error || !kind.string().ends_with("link")) return std::optional<u32>();
  const TcxLinkInfo info = CTD_TRY(tcx_link_info(fd.get()).context("{}", pin));
  return info.type == kLinkTypeTcx ? std::optional<u32>(info.ifindex) : std::nullopt;
}

}  // namespace ctd
