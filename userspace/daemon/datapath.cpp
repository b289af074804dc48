// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <thread>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ctd/abi/cache.h>
#include <ctd/abi/policy_defaults.h>
#include <sys/random.h>

#include "datapath.skel.h"

namespace ctd {
namespace {

// By enum stage of bpf/core/scratch.h.
constexpr std::array kStages{"ctd_lookup", "ctd_actions", "ctd_ct", "ctd_route", "ctd_upcall", "ctd_icmp_error"};

constexpr u32 kIcmpErrorsPerSecond = 1000;
constexpr u32 kUpcallsPerSecond = 20000;  // of one port
constexpr u32 kUpcallBurst = 2000;

thread_local std::string* captured = nullptr;

int log_libbpf(libbpf_print_level level, const char* format, va_list args) {
  if (level != LIBBPF_WARN || !captured) return 0;
  std::array<char, 512> line{};
  vsnprintf(line.data(), line.size(), format, args);
  if (captured->size() < 4096) captured->append(line.data());
  return 0;
}

// Collects what libbpf says, so that an error can quote it.
class LibbpfLog {
 public:
  LibbpfLog() {
    libbpf_set_print(log_libbpf);
    captured = &text_;
  }
  ~LibbpfLog() { captured = nullptr; }
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  // The first line that says what went wrong.
  std::string first_line() const { return text_.substr(0, text_.find('\n')); }

 private:
  std::string text_;
};

Result<Mapping> map_memory(int fd, std::size_t size, int protection, const char* name) {
  void* data = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return fail_errno(errno, "mapping map {}", name);
  return Mapping(data, size);
}

Result<ctd_meta> read_meta(const std::string& pins) {
  const Fd fd(bpf_obj_get((pins + "/ctd_meta").c_str()));
  if (!fd) return fail_errno(errno, "opening {}/ctd_meta", pins);
  const u32 zero = 0;
  ctd_meta meta{};
  bpf_map_info info{};
  u32 size = sizeof(info);
  if (const int error = bpf_obj_get_info_by_fd(fd.get(), &info, &size)) return fail_errno(error, "asking map ctd_meta");
  if (info.value_size != sizeof(meta)) {
    return fail(
        "the running datapath has another ABI (its ctd_meta has {} bytes, ours {}): stop it with its own ctctl "
        "shutdown, or choose another --instance",
        info.value_size, sizeof(meta));
  }
  if (const int error = bpf_map_lookup_elem(fd.get(), &zero, &meta)) return fail_errno(error, "reading map ctd_meta");
  return meta;
}

TableSize size_of(const ctd_meta& meta) {
  return {meta.conn_capacity, meta.family_capacity[0], meta.family_capacity[1]};
}

Result<> check_meta(const ctd_meta& meta, const Datapath::Options& options) {
  if (meta.magic != CTD_ABI_MAGIC || meta.abi_version != CTD_ABI_VERSION) {
    return fail(
        "the running datapath has ABI version {}, this ctd has {}: stop it with its own `ctctl shutdown` (its "
        "connections end), or choose another --instance; nothing was changed",
        meta.abi_version, CTD_ABI_VERSION);
  }
  const auto text = [](const TableSize& size, u32 flows) {
    return fmt::format("{} connections ({} of IPv4, {} of IPv6) and {} flows", size.total, size.ipv4, size.ipv6, flows);
  };
  const std::string running = text(size_of(meta), meta.flow_capacity);
  const std::string wanted = text(options.table_size(), options.flow_capacity);
  if (running != wanted) {
    return fail(
        "the running datapath was made for {}, the configuration says {}: a changed size needs `ctctl shutdown` first; "
        "nothing was changed",
        running, wanted);
  }
  return {};
}

Result<ctd_meta> make_meta(const Datapath::Options& options, const JiffiesClock& clock) {
  ctd_meta meta{};
  meta.magic = CTD_ABI_MAGIC;
  meta.abi_version = CTD_ABI_VERSION;
  std::array<u64, 2> secrets{};
  if (getrandom(secrets.data(), sizeof(secrets), 0) != sizeof(secrets)) return fail_errno(errno, "getrandom");
  meta.seed = secrets[0];
  meta.token = secrets[1];
  meta.hz = CTD_TRY(clock.measure_hz());
  const TableSize size = options.table_size();
  meta.conn_capacity = size.total;
  meta.family_capacity[0] = size.ipv4;
  meta.family_capacity[1] = size.ipv6;
  meta.flow_capacity = options.flow_capacity;
  return meta;
}

void set_sizes(datapath_bpf& skel, const ctd_meta& meta) {
  set_table_sizes(skel.obj, size_of(meta));
  bpf_map__set_max_entries(skel.maps.flow_index, meta.flow_capacity);
  bpf_map__set_max_entries(skel.maps.flows, meta.flow_capacity + 1);
}

// Of a per-CPU map whose values are counters and nothing else (their sizes are asserted in the ABI).
template <typename Counters>
Result<Counters> sum_over_cpus(const Datapath& dp, const char* map, u32 index) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return fail_errno(cpus, "counting CPUs");
  std::vector<Counters> values(static_cast<std::size_t>(cpus));
  CTD_TRY(map_get_raw(dp, map, &index, values.data()));
  Counters total{};
  auto* sums = reinterpret_cast<u64*>(&total);
  for (const Counters& value : values) {
    const auto* counters = reinterpret_cast<const u64*>(&value);
    for (std::size_t i = 0; i < sizeof(total) / sizeof(u64); i++) sums[i] += counters[i];
  }
  return total;
}

}  // namespace

Datapath::~Datapath() {
  if (skeleton_) datapath_bpf__destroy(skeleton_);
}

Result<bool> Datapath::is_unfinished(const std::string& pins) {
  if (access((pins + "/ctd_meta").c_str(), F_OK) != 0) return !std::filesystem::is_empty(pins);
  return CTD_TRY(read_meta(pins)).magic == 0;
}

Result<std::unique_ptr<Datapath>> Datapath::open(const Options& options, const JiffiesClock& clock) {
  std::unique_ptr<Datapath> dp(new Datapath);
  dp->adopted_ = access((options.pins + "/ctd_meta").c_str(), F_OK) == 0;
  if (dp->adopted_) {
    dp->meta_ = CTD_TRY(read_meta(options.pins));
    CTD_TRY(check_meta(dp->meta_, options));
  } else {
    dp->meta_ = CTD_TRY(make_meta(options, clock));
  }
  dp->meta_.tap_ifindex = options.tap_ifindex;
  CTD_TRY(dp->load(options));
  if (!dp->adopted_) CTD_TRY(dp->fill_new_maps());
  CTD_TRY(map_set(*dp, "ctd_meta", u32{0}, dp->meta_));
  return dp;
}

Result<> Datapath::load(const Options& options) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return fail_errno(cpus, "counting CPUs");
  LibbpfLog log;
  skeleton_ = datapath_bpf__open();
  if (!skeleton_) return fail_errno(errno, "opening the BPF object");
  skeleton_->rodata->ctd_config = {.seed = meta_.seed,
                                   .token = meta_.token,
                                   .hz = meta_.hz,
                                   .conn_capacity = meta_.conn_capacity,
                                   .tap_ifindex = meta_.tap_ifindex,
                                   .icmp_rate = kIcmpErrorsPerSecond,
                                   .family_capacity = {meta_.family_capacity[0], meta_.family_capacity[1]},
                                   .id_batch = ctd_id_batch(meta_.conn_capacity, static_cast<u32>(cpus)),
                                   .adaptive_start = options.adaptive_start * 10,
                                   .adaptive_end = options.adaptive_end * 10};
  set_sizes(*skeleton_, meta_);
  table_memory_ = memory_of_table(skeleton_->obj);
  if (!adopted_) {
    CTD_TRY(check_memory(memory_of_maps(skeleton_->obj), CTD_TRY(available_memory()), size_of(meta_)));
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    if (bpf_map__is_internal(map)) continue;
    const std::string path = options.pins + "/" + bpf_map__name(map);
    if (const int error = bpf_map__set_pin_path(map, path.c_str())) return fail_errno(error, "pinning {}", path);
  }
  if (const int error = datapath_bpf__load(skeleton_)) {
    return fail_errno(error, "loading the BPF programs ({})", log.first_line());
  }
  rt_ = CTD_TRY(map_memory(this->map("ctd_rt"), sizeof(ctd_rt), PROT_READ | PROT_WRITE, "ctd_rt"));
  conns_ =
      CTD_TRY(map_memory(this->map("ct_conn"), sizeof(ctd_conn) * (meta_.conn_capacity + 1), PROT_READ, "ct_conn"));
  flows_ = CTD_TRY(
      map_memory(this->map("flows"), sizeof(ctd_flow) * (meta_.flow_capacity + 1), PROT_READ | PROT_WRITE, "flows"));
  masks_ = CTD_TRY(
      map_memory(this->map("flow_masks"), sizeof(ctd_mask) * CTD_MAX_MASKS, PROT_READ | PROT_WRITE, "flow_masks"));
  zones_ = CTD_TRY(map_memory(this->map("ct_zones"), sizeof(ctd_zone) * kZones, PROT_READ | PROT_WRITE, "ct_zones"));
  return {};
}

Result<> Datapath::fill_new_maps() const {
  const auto classes = make_classes(size_of(meta_));
  for (u32 index = 0; index < classes.size(); index++) CTD_TRY(map_set(*this, "ct_class", index, classes[index]));
  ctd_ct_policy policy{};
  ctd_ct_policy_defaults(&policy, 0);
  CTD_TRY(map_set(*this, "ct_policies", u32{0}, policy));
  // Entry 0: what every verdict compares.
  ctd_guard guard{};
  guard.in_port = 0xffff;
  guard.vlan_tci = 0xffff;
  std::fill(std::begin(guard.eth_dst), std::end(guard.eth_dst), 0xff);
  CTD_TRY(map_set(*this, "guard_masks", u32{0}, guard));
  for (u32 port = 0; port < CTD_MAX_PORTS; port++) {
    const ctd_port_limit limit{.rate = kUpcallsPerSecond, .burst = kUpcallBurst, .tokens = kUpcallBurst, .filled = 0};
    CTD_TRY(map_set(*this, "port_limits", port, limit));
  }
  rt()->version = 1;
  return {};
}

Result<u64> Datapath::set_rules_hash(u64 hash) {
  const u64 before = std::exchange(meta_.rules, hash);
  CTD_TRY(map_set(*this, "ctd_meta", u32{0}, meta_));
  return before;
}

int Datapath::map(const char* name) const { return bpf_object__find_map_fd_by_name(skeleton_->obj, name); }

int Datapath::program(const char* name) const {
  const bpf_program* program = bpf_object__find_program_by_name(skeleton_->obj, name);
  return program ? bpf_program__fd(program) : -ENOENT;
}

Result<> Datapath::start() const {
  for (u32 stage = 0; stage < kStages.size(); stage++) {
    CTD_TRY(map_set(*this, "stages", stage, program(kStages[stage])));
  }
  std::array<unsigned char, 64> packet{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size());
  const int error = bpf_prog_test_run_opts(program("ctd_timer"), &options);
  if (error) return fail_errno(error, "running the program that starts the sweep");
  if (options.retval) return fail_errno(static_cast<int>(options.retval), "starting the sweep's timer");
  return {};
}

void Datapath::raise_version() const { __atomic_add_fetch(&rt()->version, 1, __ATOMIC_SEQ_CST); }

Result<u64> Datapath::control(const char* name) const {
  ctd_control context{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof(context));
  const int error = bpf_prog_test_run_opts(program(name), &options);
  if (error) return fail_errno(error, "running {}", name);
  if (options.retval) return fail("{} answered {}", name, static_cast<int>(options.retval));
  return context.count;
}

Result<u64> Datapath::flush() const {
  using namespace std::chrono_literals;
  const u64 marked = CTD_TRY(control("ctd_flush"));
  raise_version();
  // The sweep destroys what is marked, up to 100,000 a second; after two whole rounds nothing is left of it.
  const u64 sweeps = __atomic_load_n(&rt()->sweeps, __ATOMIC_RELAXED);
  const auto deadline = std::chrono::steady_clock::now() + 5s + std::chrono::milliseconds(marked / 50);
  while (std::chrono::steady_clock::now() < deadline) {
    if (__atomic_load_n(&rt()->sweeps, __ATOMIC_RELAXED) >= sweeps + 2) return marked;
    std::this_thread::sleep_for(20ms);
  }
  return fail("{} connections are marked, but the sweep has not come round: is its timer alive?", marked);
}

Result<> Datapath::credit() const {
  CTD_TRY(control("ctd_credit"));
  return {};
}

TableSize Datapath::table_size() const { return size_of(meta_); }

Result<ctd_port_stats> Datapath::stats(u32 port) const {
  return sum_over_cpus<ctd_port_stats>(*this, "port_stats", port);
}

Result<ctd_ct_stats> Datapath::ct_stats() const { return sum_over_cpus<ctd_ct_stats>(*this, "ct_stats", 0); }

Result<std::array<ctd_class, CTD_CLASS_INDEXES>> Datapath::classes() const {
  std::array<ctd_class, CTD_CLASS_INDEXES> classes{};
  for (u32 index = 0; index < classes.size(); index++) {
    classes[index] = CTD_TRY((map_get<u32, ctd_class>(*this, "ct_class", index)));
  }
  return classes;
}

Result<> map_set_raw(const Datapath& dp, const char* map, const void* key, const void* value) {
  if (const int error = bpf_map_update_elem(dp.map(map), key, value, BPF_ANY))
    return fail_errno(error, "writing map {}", map);
  return {};
}

Result<> map_get_raw(const Datapath& dp, const char* map, const void* key, void* value) {
  if (const int error = bpf_map_lookup_elem(dp.map(map), key, value)) return fail_errno(error, "reading map {}", map);
  return {};
}

Result<> map_erase_raw(const Datapath& dp, const char* map, const void* key) {
  const int error = bpf_map_delete_elem(dp.map(map), key);
  if (error && error != -ENOENT) return fail_errno(error, "deleting from map {}", map);
  return {};
}

}  // namespace ctd
