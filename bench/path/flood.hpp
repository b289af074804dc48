// SPDX-License-Identifier: Apache-2.0
// 64-byte UDP packets of many flows, injected as received by a gateway's ports and counted where
// they arrive. Injection, the path under test and the sink run on the calling thread's CPU.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "attach.hpp"
#include "bench_flood.h"
#include "lib/result.hpp"

struct bench_flood_bpf;

namespace ctd::bench {

struct Endpoint {
  std::string netns;
  std::string device;
};

struct FloodOptions {
  Endpoint lan;     // the gateway's port towards the clients
  Endpoint wan;     // the gateway's port towards the servers
  Endpoint client;  // far end of lan
  Endpoint server;  // far end of wan
  std::string client_net, server_net;
  std::string translated;     // IPv4 address that servers see, empty: the client's own
  bool sink_on_port = false;  // receive and drop on the gateway's own port
  std::uint32_t flows = 100;
  std::uint32_t batch = 64;
};

struct Settling {
  std::uint32_t laps = 1;      // packets of each flow and direction
  std::uint32_t burst = 1;     // first packets sent before their answers
  std::uint32_t pause_ms = 0;  // before the last lap
};

enum class Direction { kOriginal, kReply };

struct Tally {
  std::uint64_t sent = 0;
  flood_sink sink{};
  std::uint64_t path_ns = 0;  // by the kernel's clock around the packets, without the set-up of a run
  std::uint64_t cpu_ns = 0;   // of this thread, softirqs that ran in it included

  std::uint64_t lost() const { return sink.received < sent ? sent - sink.received : 0; }
  Tally& operator+=(const Tally& other);
};

void to_json(nlohmann::json& json, const Tally& tally);

class Flood {
 public:
  // Attaches the sinks and leaves the calling thread in the gateway's namespace.
  static Result<Flood> start(const FloodOptions& options);
  Flood(Flood&&) noexcept;
  ~Flood();

  // Every flow's first packet, answered at once, then more laps over all flows, the last one after
  // a pause, with every packet checked where it arrives. A burst with losses in the first lap (the
  // path was still setting itself up) is sent again a few times. The tally is of what was sent
  // last, both directions.
  Result<Tally> settle(const Settling& settling);

  // The first packets of flows beside those of the options. Afterwards send() goes over the options' again.
  Result<Tally> open_flows(std::uint32_t first, std::uint32_t count);

  // packets in one direction, over all flows in turn.
  Result<Tally> send(Direction direction, std::uint64_t packets);

 private:
  using Mac = std::array<std::uint8_t, 6>;
  struct Port {
    unsigned ifindex = 0;
    Mac mac{}, neighbour{};
  };
  struct Skeleton {
    void operator()(bench_flood_bpf* skeleton) const;
  };
  explicit Flood(FloodOptions options);

  Result<void> configure();
  static Result<Mac> device_mac(const std::string& device);
  static Result<Port> find_port(const Endpoint& near, const Endpoint& far);
  Result<void> attach_sinks();
  Result<Tally> exchange(std::uint32_t first, std::uint32_t count);
  void use_flows(std::uint32_t first, std::uint32_t count);
  const flood_sink& sink(Direction direction) const;
  void wait_for(Direction direction, std::uint64_t received) const;

  FloodOptions options_;
  std::unique_ptr<bench_flood_bpf, Skeleton> skeleton_;
  Port lan_, wan_;
  std::vector<XdpLink> far_sinks_;
  std::vector<TcIngress> port_sinks_;
};

}  // namespace ctd::bench
