// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.hpp"

#include <array>
#include <filesystem>

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>

#include "daemon/api.hpp"
#include "daemon/forward_block.hpp"
#include "daemon/policy.hpp"
#include "daemon/sysctl.hpp"

namespace ctd {
namespace {

constexpr std::chrono::milliseconds kBeat{500};  // the datapath takes a daemon for dead after 3 s
constexpr std::chrono::seconds kMaintenance{1};
constexpr unsigned kUpcallBudget = 256;  // packets between two looks at other events

// FNV-1a over the texts: equal rules, equal hash, also in another build.
u64 hash_of(const RuleSet& rules, const PortNames& ports) {
  u64 hash = 0xcbf29ce484222325;
  for (const RuleRef& rule : rules.all()) {
    for (const char c : format_rule(rule->rule, ports)) hash = (hash ^ static_cast<u8>(c)) * 0x100000001b3;
  }
  return hash;
}

const char* family_name(ctd_family family) { return family == CTD_IPV4 ? "IPv4" : "IPv6"; }

}  // namespace

Daemon::Daemon(Options options, Config config, NetWatch net)
    : options_(std::move(options)), config_(std::move(config)), net_(std::move(net)) {}

Daemon::~Daemon() = default;

Result<> Daemon::open_datapath() {
  for (const auto& dead : CTD_TRY(remove_dead_pins(options_.bpffs, options_.rundir))) {
    spdlog::info("removed what instance {} left in a network namespace that is gone", dead.instance);
  }
  clock_ = CTD_TRY(JiffiesClock::open());
  tap_ = CTD_TRY(Tap::open(options_.instance));
  pins_ = CTD_TRY(make_pin_folder(options_.bpffs, options_.instance));
  if (CTD_TRY(Datapath::is_unfinished(pins_))) {
    // Nothing is attached before the instance's first page is written: there is nothing to take over.
    spdlog::warn("an earlier start did not come to its end: its remains in {} are removed", pins_);
    CTD_TRY(remove_pin_folder(pins_));
    pins_ = CTD_TRY(make_pin_folder(options_.bpffs, options_.instance));
  }
  dp_ = CTD_TRY(Datapath::open({.pins = pins_,
                                .conn_capacity = config_.conntrack_capacity,
                                .flow_capacity = config_.flow_capacity,
                                .tap_ifindex = tap_->ifindex(),
                                .ipv4_capacity = config_.conntrack_ipv4,
                                .ipv6_capacity = config_.conntrack_ipv6,
                                .adaptive_start = config_.adaptive_start,
                                .adaptive_end = config_.adaptive_end},
                               *clock_));
  orders_.emplace(CTD_TRY(ConnOrders::open(*dp_)));
  expectations_.emplace(*dp_);
  event_reader_ = CTD_TRY(EventReader::start(dp_->map("ct_events"), dp_->rt(), events_));
  return {};
}

Result<> Daemon::set_up_rules(const NetSnapshot& snapshot) {
  ports_.emplace(*dp_, config_, pins_);
  CTD_TRY(ports_->check_unclaimed(options_.bpffs, options_.instance, snapshot));
  CTD_TRY(ports_->assign(snapshot));
  ct_.emplace(CTD_TRY(CtSettings::apply(*dp_, config_.conntrack)));
  rules_ = CTD_TRY(compile_policies(config_, ports_->names(), ct_->policies()));
  CTD_TRY(ports_->sync(snapshot, *rules_));
  flows_.emplace(*dp_, ct_->policies());
  if (dp_->adopted()) {
    const auto adopted = CTD_TRY(flows_->adopt(*rules_));
    dp_->raise_version();
    spdlog::info("took over the running datapath: {} connections, {} flows ({} more were not right any more)",
                 dp_->rt()->conns, adopted.kept, adopted.removed);
  }
  const u64 rules_before = CTD_TRY(dp_->set_rules_hash(hash_of(*rules_, ports_->names())));
  rules_changed_ = dp_->adopted() && rules_before != dp_->meta().rules;
  upcalls_.emplace(tap_->fd(), dp_->meta().token,
                   [this](const ctd_flow_key& key) { return flows_->install(*rules_, key); });
  return {};
}

Attachment Daemon::tap_attachment(Hook hook) const {
  return {.device = tap_->name(),
          .ifindex = tap_->ifindex(),
          .hook = hook,
          .link_pin = pins_ + (hook == Hook::ingress ? "/link_in_tap" : "/link_out_tap")};
}

Result<> Daemon::attach_tap() {
  CTD_TRY(attach(tap_attachment(Hook::egress), dp_->program("ctd_tap_out")));
  return attach(tap_attachment(Hook::ingress), dp_->program("ctd_tap_in"));
}

Result<> Daemon::detach_tap() {
  CTD_TRY(detach(tap_attachment(Hook::ingress)));
  return detach(tap_attachment(Hook::egress));
}

void Daemon::report_forwarding() const {
  for (const ctd_family family : {CTD_IPV4, CTD_IPV6}) {
    const auto on = global_forwarding(family);
    if (on && !*on) {
      spdlog::warn(
          "the host does not forward {} ({} is 0): ctd asks the host's routing table and will drop every {} "
          "packet that is not for the host, as forwarding_off",
          family_name(family), family == CTD_IPV4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding",
          family_name(family));
    }
  }
}

// Where the host forwards at all, it forwards on the ports. And what an earlier take_down() prohibited is allowed
// again.
Result<> Daemon::allow_forwarding() {
  for (const ctd_family family : {CTD_IPV4, CTD_IPV6}) {
    for (const std::string& port : config_.ports) {
      if (CTD_TRY(unblock_forwarding(port, family))) {
        spdlog::info("port {}: {} is forwarded again", port, family_name(family));
      }
      if (!CTD_TRY(global_forwarding(family)) || CTD_TRY(get_forwarding(port, family))) continue;
      CTD_TRY(set_forwarding(port, family, true));
      spdlog::info("port {}: {} forwarding was off, is on now", port, family_name(family));
    }
  }
  return {};
}

// With the hooks gone, the host's stack would forward what is inside to the outside, untranslated.
Result<> Daemon::prohibit_forwarding() {
  for (const ctd_family family : {CTD_IPV4, CTD_IPV6}) {
    if (!(family == CTD_IPV4 ? config_.gateway.masquerade : config_.gateway.masquerade6)) continue;
    for (const std::string& port : config_.gateway.inside) {
      CTD_TRY(block_forwarding(port, family));
      spdlog::info(
          "port {}: {} is not forwarded any more, for nobody translates it now (see `ip{} rule`; the next start "
          "of ctd takes this back)",
          port, family_name(family), family == CTD_IPV4 ? "" : " -6");
    }
  }
  return {};
}

Result<> Daemon::start() {
  lock_ = CTD_TRY(InstanceLock::take(options_.rundir, options_.instance));
  const NetSnapshot snapshot = CTD_TRY(net_.snapshot());
  const auto up = [&]() -> Result<> {
    CTD_TRY(open_datapath());
    CTD_TRY(set_up_rules(snapshot));
    beat();
    CTD_TRY(dp_->start());
    if (rules_changed_) {
      // A connection keeps what it was committed with, its mapping above all, and the new rules may want another one.
      const u64 ended = CTD_TRY(dp_->flush());
      spdlog::info("the rules have changed: {} connections made under the old ones were ended", ended);
    }
    CTD_TRY(attach_tap());
    CTD_TRY(ports_->attach_all());
    return allow_forwarding();
  }();
  if (!up) {
    // What was there before stays; what this start made goes.
    if (dp_ && !dp_->adopted()) {
      if (const auto undone = remove_all(); !undone) spdlog::error("cleaning up: {}", undone.error().message());
    } else if (!dp_ && !pins_.empty() && std::filesystem::is_empty(pins_)) {
      const auto removed = remove_pin_folder(pins_);
      if (!removed) spdlog::error("cleaning up: {}", removed.error().message());
      if (tap_) {
        if (const auto gone = Tap::remove(tap_->name()); !gone)
          spdlog::error("cleaning up: {}", gone.error().message());
      }
    }
    return up;
  }
  report_forwarding();
  wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return fail_errno(errno, "eventfd");
  for (const auto& entry : ports_->entries()) {
    spdlog::info("port {}: number {}, interface index {}, {}", entry.name, entry.port.number, entry.port.ifindex,
                 have_tcx() ? "TCX" : "clsact");
  }
  spdlog::info("instance {} is up: {} connections at most, {} rules, dedicated device {}", options_.instance,
               config_.conntrack_capacity, rules_->all().size(), tap_->name());
  return {};
}

void Daemon::beat() const {
  // The sweep keeps the clock; before its first round the daemon's own does.
  u32 now = __atomic_load_n(&dp_->rt()->beat, __ATOMIC_RELAXED);
  if (const auto jiffies = clock_->now()) now = static_cast<u32>(*jiffies);
  __atomic_store_n(&dp_->rt()->daemon_beat, now, __ATOMIC_RELAXED);
}

Result<> Daemon::handle_changes() {
  const Changes changes = CTD_TRY(net_.drain());
  if (!changes.any()) return {};
  if (changes.links || changes.addresses) {
    const NetSnapshot snapshot = CTD_TRY(net_.snapshot());
    const std::lock_guard guard(mutex_);
    if (CTD_TRY(ports_->sync(snapshot, *rules_))) CTD_TRY(ports_->attach_all());
  }
  dp_->raise_version();
  return {};
}

Result<> Daemon::tick() {
  beat();
  const auto now = std::chrono::steady_clock::now();
  if (now - last_tick_ < kMaintenance) return {};
  last_tick_ = now;
  const std::lock_guard guard(mutex_);
  if (const auto line = refusals_.note(CTD_TRY(read_table_stats()), now)) spdlog::warn("{}", *line);
  return flows_->maintain();
}

Result<> Daemon::run(int stop_fd) {
  std::array<pollfd, 4> fds{pollfd{.fd = stop_fd, .events = POLLIN, .revents = 0},
                            pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                            pollfd{.fd = tap_->fd(), .events = POLLIN, .revents = 0},
                            pollfd{.fd = net_.fd(), .events = POLLIN, .revents = 0}};
  auto next_beat = std::chrono::steady_clock::now();
  for (;;) {
    if (poll(fds.data(), fds.size(), static_cast<int>(kBeat.count())) < 0 && errno != EINTR) {
      return fail_errno(errno, "poll");
    }
    if (fds[0].revents || fds[1].revents) return {};
    if (fds[2].revents) {
      const std::lock_guard guard(mutex_);
      CTD_TRY(upcalls_->handle(kUpcallBudget));
    }
    // What cannot be done now is said and tried again with the next event; the datapath goes on meanwhile.
    if (fds[3].revents) {
      if (const auto handled = handle_changes(); !handled) spdlog::error("{}", handled.error().message());
    }
    if (std::chrono::steady_clock::now() >= next_beat) {
      if (const auto ticked = tick(); !ticked) spdlog::error("{}", ticked.error().message());
      next_beat = std::chrono::steady_clock::now() + kBeat;
    }
  }
}

Result<> Daemon::take_down() {
  CTD_TRY(prohibit_forwarding());
  CTD_TRY(remove_all());
  spdlog::info("instance {} is down", options_.instance);
  return {};
}

Result<> Daemon::remove_all() {
  if (ports_) CTD_TRY(ports_->detach_all());
  CTD_TRY(detach_tap());
  flows_.reset();
  ct_.reset();
  event_reader_.reset();
  dp_.reset();
  CTD_TRY(remove_pin_folder(pins_));
  CTD_TRY(Tap::remove(tap_->name()));
  return lock_->remove_file();
}

}  // namespace ctd
