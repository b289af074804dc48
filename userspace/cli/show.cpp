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

// The names are those of the answer: a newer daemon may have more than we know the meaning of.
Result<> count_table(Output& out, const json& stats, const char* group, std::string_view title,
                     std::span<const NameAndText> meanings, bool all) {
  Table table(out, {{title}, {"COUNT", Table::Align::kRight}, {"BY PORT"}, {"MEANING"}});
  bool any = false;
  for (const auto& [name, count] : stats.at("total").at(group).items()) {
    if (!all && count == 0) continue;
    any = true;
    std::string_view meaning;
    for (const NameAndText& known : meanings)
      if (known.name == name) meaning = known.text;
    CTD_TRY(table.add({name, text(count), by_port(stats.at("ports"), group, name), std::string(meaning)}));
  }
  if (!any) return {};
  CTD_TRY(out.write("\n"));
  return table.finish();
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

Result<> show_stats(Output& out, const json& stats, bool all) {
  return checked("statistics", [&]() -> Result<> {
    CTD_TRY(traffic_table(out, stats));
    CTD_TRY(count_table(out, stats, "drops", "DROPPED", drop_reasons(), all));
    CTD_TRY(count_table(out, stats, "counters", "COUNTER", counters(), all));
    std::string classes;
    for (const auto& [name, count] : stats.at("connections").items())
      classes += fmt::format("{}{} {}", classes.empty() ? "" : ", ", text(count), name);
    return out.write(fmt::format("\nconnections: {}\n", classes));
  });
}

}  // namespace ctd
