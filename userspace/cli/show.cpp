// SPDX-License-Identifier: Apache-2.0
#include "cli/show.hpp"

#include <span>
#include <string>

#include <fmt/format.h>

#include "cli/table.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

// The daemon is of our version or of another: a member that is missing is an error with a message, not an exception.
template <typename Show>
Result<> checked(const char* what, Show show) {
  try {
    return show();
  } catch (const json::exception& e) {
    return fail("ctd's answer about {} is not as expected: {}", what, e.what());
  }
}

std::string text(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

Result<> traffic_table(Output& out, const json& stats) {
  constexpr auto kRight = Table::Align::kRight;
  Table table(out,
              {{"PORT"}, {"RX PACKETS", kRight}, {"RX BYTES", kRight}, {"TX PACKETS", kRight}, {"TX BYTES", kRight}});
  const auto add = [&](const std::string& name, const json& port) {
    return table.add({name, text(port.at("rx_packets")), text(port.at("rx_bytes")), text(port.at("tx_packets")),
                      text(port.at("tx_bytes"))});
  };
  for (const json& port : stats.at("ports")) CTD_TRY(add(port.at("name"), port));
  CTD_TRY(add("total", stats.at("total")));
  return table.finish();
}

// "lan0 3, LOCAL 1"
std::string by_port(const json& ports, const char* group, const std::string& name) {
  std::string result;
  for (const json& port : ports) {
    const auto count = port.at(group).value(name, uint64_t{0});
    if (count) result += fmt::format("{}{} {}", result.empty() ? "" : ", ", port.at("name").get<std::string>(), count);
  }
  return result;
}

// Empty for a name of a newer daemon.
std::string meaning_of(std::string_view name, std::span<const NameAndText> meanings) {
  for (const NameAndText& known : meanings)
    if (known.name == name) return std::string(known.text);
  return {};
}

// The names are those of the answer: a newer daemon may have more than we know the meaning of.
Result<> count_table(Output& out, const json& stats, const char* group, std::string_view title,
                     std::span<const NameAndText> meanings, bool all) {
  Table table(out, {{title}, {"COUNT", Table::Align::kRight}, {"BY PORT"}, {"MEANING"}});
  bool any = false;
  for (const auto& [name, count] : stats.at("total").at(group).items()) {
    if (!all && count == 0) continue;
    any = true;
    CTD_TRY(table.add({name, text(count), by_port(stats.at("ports"), group, name), meaning_of(name, meanings)}));
  }
  if (!any) return {};
  CTD_TRY(out.write("\n"));
  return table.finish();
}

// A count for each reason, without the ports.
Result<> reason_table(Output& out, const json& counts, std::string_view title, std::span<const NameAndText> meanings,
                      bool all) {
  Table table(out, {{title}, {"COUNT", Table::Align::kRight}, {"MEANING"}});
  bool any = false;
  for (const auto& [name, count] : counts.items()) {
    if (!all && count == 0) continue;
    any = true;
    CTD_TRY(table.add({name, text(count), meaning_of(name, meanings)}));
  }
  if (!any) return {};
  CTD_TRY(out.write("\n"));
  return table.finish();
}

Result<> connection_table_use(Output& out, const json& stats, bool all) {
  const json& conntrack = stats.at("conntrack");
  CTD_TRY(reason_table(out, conntrack.at("ended"), "ENDED", end_reasons(), all));
  CTD_TRY(reason_table(out, conntrack.at("invalid"), "INVALID", invalid_reasons(), all));
  CTD_TRY(reason_table(out, conntrack.at("expectations").at("counters"), "EXPECTATIONS", expect_counters(), all));
  CTD_TRY(out.write("\n"));
  constexpr auto kRight = Table::Align::kRight;
  Table table(out, {{"CONNECTIONS"}, {"IPV4", kRight}, {"QUOTA", kRight}, {"IPV6", kRight}, {"QUOTA", kRight}});
  const json &ipv4 = conntrack.at("classes").at("ipv4"), &ipv6 = conntrack.at("classes").at("ipv6");
  for (const auto& [name, one] : ipv4.items()) {
    CTD_TRY(table.add({name, text(one.at("connections")), text(one.at("quota")), text(ipv6.at(name).at("connections")),
                       text(ipv6.at(name).at("quota"))}));
  }
  CTD_TRY(table.finish());
  const json& timeouts = conntrack.at("timeouts_percent");
  return out.write(fmt::format(
      "{} of {} connections ({} %), {:.1f} MiB; {} evicted, {} refused; timeouts at {} % (IPv4), {} % (IPv6)\n",
      text(conntrack.at("connections")), text(conntrack.at("capacity").at("total")), text(conntrack.at("fill_percent")),
      conntrack.at("memory_bytes").get<double>() / (1 << 20), text(conntrack.at("evicted")),
      text(conntrack.at("refused")), text(timeouts.at("ipv4")), text(timeouts.at("ipv6"))));
}

}  // namespace

Result<> show_flows(Output& out, const json& flows) {
  return checked("flows", [&]() -> Result<> {
    for (const json& flow : flows) {
      const json& used = flow.at("used_s");
      CTD_TRY(out.write(fmt::format("{}, packets:{}, bytes:{}, used:{}, actions:{}\n", text(flow.at("key")),
                                    text(flow.at("packets")), text(flow.at("bytes")),
                                    used.is_null() ? "never" : fmt::format("{:.3f}s", used.get<double>()),
                                    text(flow.at("actions")))));
    }
    return {};
  });
}

Result<> show_rules(Output& out, const json& rules) {
  return checked("rules", [&]() -> Result<> {
    for (const json& rule : rules)
      CTD_TRY(out.write(fmt::format(" cookie={}, n_packets={}, n_bytes={}, {}\n", text(rule.at("cookie")),
                                    text(rule.at("n_packets")), text(rule.at("n_bytes")), text(rule.at("text")))));
    return {};
  });
}

Result<> show_ports(Output& out, const json& ports) {
  return checked("ports", [&]() -> Result<> {
    Table table(out, {{"PORT", Table::Align::kRight},
                      {"NAME"},
                      {"IFINDEX", Table::Align::kRight},
                      {"MODE"},
                      {"MTU", Table::Align::kRight},
                      {"MAC"},
                      {"FORWARDING"},
                      {"RPFILTER"},
                      {"ADDRESSES"}});
    for (const json& port : ports) {
      std::string addresses, forwarding;
      for (const json& address : port.at("addresses")) addresses += (addresses.empty() ? "" : " ") + text(address);
      for (const auto& [family, on] : port.at("forwarding").items())
        if (on.get<bool>()) forwarding += (forwarding.empty() ? "" : ",") + family;
      CTD_TRY(table.add({text(port.at("port")), text(port.at("name")), text(port.at("ifindex")), text(port.at("mode")),
                         text(port.at("mtu")), port.contains("mac") ? text(port["mac"]) : "-",
                         forwarding.empty() ? "off" : forwarding, text(port.at("rpfilter")), addresses}));
    }
    return table.finish();
  });
}

Result<> show_zones(Output& out, const json& table) {
  return checked("zones", [&]() -> Result<> {
    constexpr auto kRight = Table::Align::kRight;
    Table zones(out, {{"ZONE", kRight}, {"LIMIT", kRight}, {"COUNT", kRight}, {"POLICY"}});
    const auto limit = [](const json& value) { return value == 0 ? std::string("none") : text(value); };
    CTD_TRY(zones.add({"default", limit(table.at("default_limit")), "", "default"}));
    for (const json& zone : table.at("zones"))
      CTD_TRY(zones.add({text(zone.at("zone")), zone.at("own_limit").get<bool>() ? limit(zone.at("limit")) : "default",
                         text(zone.at("count")), text(zone.at("policy"))}));
    return zones.finish();
  });
}

Result<> show_policies(Output& out, const json& policies) {
  return checked("timeout policies", [&]() -> Result<> {
    for (const json& policy : policies) {
      CTD_TRY(out.write(fmt::format("{}: tcp_pickup {}, tcp_liberal {}, tcp_max_retrans {}\n", text(policy.at("name")),
                                    text(policy.at("tcp_pickup")), text(policy.at("tcp_liberal")),
                                    text(policy.at("tcp_max_retrans")))));
      for (const auto& [protocol, states] : policy.at("timeouts").items()) {
        std::string seconds;
        for (const auto& [state, value] : states.items())
          seconds += fmt::format("{}{} {}", seconds.empty() ? "" : ", ", state, text(value));
        CTD_TRY(out.write(fmt::format("  {:<8} {}\n", protocol, seconds)));
      }
    }
    return {};
  });
}

Result<> show_stats(Output& out, const json& stats, bool all) {
  return checked("statistics", [&]() -> Result<> {
    CTD_TRY(traffic_table(out, stats));
    CTD_TRY(count_table(out, stats, "drops", "DROPPED", drop_reasons(), all));
    CTD_TRY(count_table(out, stats, "counters", "COUNTER", counters(), all));
    return connection_table_use(out, stats, all);
  });
}

}  // namespace ctd
