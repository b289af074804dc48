// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "daemon/config_check.hpp"

namespace ctd {
namespace {

using nlohmann::json;

constexpr std::size_t max_file_size = 1 << 20;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Result<std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "re"));
  if (!file) return fail_errno(errno, "cannot open");
  std::string text(max_file_size + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get())) return fail_errno(errno, "cannot read");
  if (text.size() > max_file_size) return fail("larger than {} bytes", max_file_size);
  return text;
}

// A document that the schema allows, as a Config.
Result<Config> to_config(const json& document) {
  Config config;
  document.at("ports").get_to(config.ports);
  const json& gateway = document.at("gateway");
  gateway.at("inside").get_to(config.gateway.inside);
  gateway.at("outside").get_to(config.gateway.outside);
  config.gateway.masquerade = gateway.value("masquerade", config.gateway.masquerade);
  config.gateway.masquerade6 = gateway.value("masquerade6", config.gateway.masquerade6);
  const json none = json::object();
  const json conntrack = document.value("conntrack", none);
  config.conntrack_capacity = conntrack.value("capacity", config.conntrack_capacity);
  config.conntrack = CTD_TRY(parse_ct_config(conntrack));
  config.conntrack_ipv4 = conntrack.value("capacity_ipv4", config.conntrack_ipv4);
  config.conntrack_ipv6 = conntrack.value("capacity_ipv6", config.conntrack_ipv6);
  const json adaptive = conntrack.value("adaptive", none);
  config.adaptive_start = adaptive.value("start", config.adaptive_start);
  config.adaptive_end = adaptive.value("end", config.adaptive_end);
  config.flow_capacity = document.value("flows", none).value("capacity", config.flow_capacity);
  const std::string rpfilter = document.value("rpfilter", std::string("strict"));
  config.rpfilter = rpfilter == "off" ? RpFilter::off : rpfilter == "loose" ? RpFilter::loose : RpFilter::strict;
  return config;
}

// A name in the configuration and where it stands.
struct NamedPort {
  std::string pointer;
  std::string name;
};

std::vector<NamedPort> gateway_ports(const GatewayConfig& gateway) {
  std::vector<NamedPort> ports;
  for (std::size_t i = 0; i < gateway.inside.size(); ++i)
    ports.push_back({fmt::format("/gateway/inside/{}", i), gateway.inside[i]});
  ports.push_back({"/gateway/outside", gateway.outside});
  return ports;
}

Result<> check_exists(const NamedPort& port, const Interfaces& interfaces) {
  if (interfaces.ifindex(port.name)) return {};
  std::vector<std::string> names = interfaces.names();
  std::sort(names.begin(), names.end());
  return fail("{}: no interface {} (there are: {})", port.pointer, brief_json(port.name), fmt::join(names, ", "));
}

Result<> check_table(const Config& config) {
  const std::pair<const char*, u32> families[] = {{"ipv4", config.conntrack_ipv4}, {"ipv6", config.conntrack_ipv6}};
  for (const auto& [family, capacity] : families) {
    if (capacity > config.conntrack_capacity)
      return fail("/conntrack/capacity_{}: must be at most /conntrack/capacity, which is {}, not {}", family,
                  config.conntrack_capacity, capacity);
  }
  return {};
}

Result<> check_sense(const Config& config, const Interfaces& interfaces) {
  // The role of a port before the list of ports: it says more about what was meant.
  const std::vector<NamedPort> roles = gateway_ports(config.gateway);
  for (const NamedPort& port : roles) CTD_TRY(check_exists(port, interfaces));
  for (std::size_t i = 0; i < config.ports.size(); ++i)
    CTD_TRY(check_exists({fmt::format("/ports/{}", i), config.ports[i]}, interfaces));
  for (const NamedPort& port : roles) {
    if (std::find(config.ports.begin(), config.ports.end(), port.name) == config.ports.end())
      return fail("{}: {} is not among /ports ({})", port.pointer, brief_json(port.name),
                  fmt::join(config.ports, ", "));
  }
  const auto& inside = config.gateway.inside;
  if (std::find(inside.begin(), inside.end(), config.gateway.outside) != inside.end())
    return fail("/gateway/outside: {} is also in /gateway/inside; it must be another port",
                brief_json(config.gateway.outside));
  return {};
}

}  // namespace

Result<Config> parse_config(std::string_view text, const Interfaces& interfaces) {
  const json document = CTD_TRY(parse_json(text));
  CTD_TRY(check_schema(document, json::parse(config_schema())));
  Config config = CTD_TRY(to_config(document));
  CTD_TRY(check_table(config));
  CTD_TRY(check_sense(config, interfaces));
  return config;
}

Result<Config> load_config(const std::string& path, const Interfaces& interfaces) {
  const auto load = [&]() -> Result<Config> { return parse_config(CTD_TRY(read_file(path)), interfaces); };
  return load().context("{}", path);
}

}  // namespace ctd
