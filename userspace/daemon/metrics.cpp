// SPDX-License-Identifier: Apache-2.0
#include "daemon/metrics.hpp"

#include <sstream>
#include <utility>
#include <vector>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include "lib/names.hpp"

namespace ctd {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

MetricFamily family(std::string name, std::string_view help, MetricType type) {
  return {std::move(name), std::string(help), type, {}};
}

ClientMetric& sample(MetricFamily& family, Labels labels) {
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  return metric;
}

void add_counter(MetricFamily& family, Labels labels, uint64_t value) {
  sample(family, std::move(labels)).counter.value = static_cast<double>(value);
}

MetricFamily traffic(std::string name, std::string_view help, std::span<const PortStats> ports,
                     u64 ctd_port_stats::* field) {
  MetricFamily result = family(std::move(name), help, MetricType::Counter);
  for (const PortStats& port : ports) add_counter(result, {{"port", port.name}}, port.total.*field);
  return result;
}

MetricFamily drops(std::span<const PortStats> ports) {
  MetricFamily result = family("ctd_drops_total", "Packets dropped, by reason.", MetricType::Counter);
  for (const PortStats& port : ports)
    for (std::size_t i = CTD_DROP_NONE + 1; i < drop_reasons().size(); ++i)
      add_counter(result, {{"port", port.name}, {"reason", std::string(drop_reasons()[i].name)}}, port.total.drop[i]);
  return result;
}

MetricFamily event(std::size_t index, std::span<const PortStats> ports) {
  const NameAndText& counter = counters()[index];
  MetricFamily result = family(fmt::format("ctd_{}_total", counter.name), counter.text, MetricType::Counter);
  for (const PortStats& port : ports) add_counter(result, {{"port", port.name}}, port.total.count[index]);
  return result;
}

MetricFamily by_class(const std::array<uint64_t, CTD_CLASS_COUNT>& connections) {
  MetricFamily result = family("ctd_connections", "Confirmed connections, by class.", MetricType::Gauge);
  for (std::size_t i = 0; i < connections.size(); ++i)
    sample(result, {{"class", std::string(conn_class_name(static_cast<ctd_conn_class>(i)))}}).gauge.value =
        static_cast<double>(connections[i]);
  return result;
}

MetricFamily gauge(std::string name, std::string_view help, double value) {
  MetricFamily result = family(std::move(name), help, MetricType::Gauge);
  sample(result, {}).gauge.value = value;
  return result;
}

MetricFamily by_family(std::string name, std::string_view help, double ipv4, double ipv6) {
  MetricFamily result = family(std::move(name), help, MetricType::Gauge);
  sample(result, {{"family", "ipv4"}}).gauge.value = ipv4;
  sample(result, {{"family", "ipv6"}}).gauge.value = ipv6;
  return result;
}

MetricFamily by_reason(std::string name, std::string_view help, const u64* counts, std::span<const NameAndText> names) {
  MetricFamily result = family(std::move(name), help, MetricType::Counter);
  for (std::size_t i = 1; i < names.size(); ++i)
    add_counter(result, {{"reason", std::string(names[i].name)}}, counts[i]);
  return result;
}

MetricFamily quotas(const TableStats& table) {
  MetricFamily result = family("ctd_connection_quota", "Connections that a class may have.", MetricType::Gauge);
  for (const ctd_family f : {CTD_IPV4, CTD_IPV6})
    for (u32 cls = 0; cls < CTD_CLASS_COUNT; ++cls)
      sample(result, {{"class", std::string(conn_class_name(static_cast<ctd_conn_class>(cls)))},
                      {"family", f == CTD_IPV4 ? "ipv4" : "ipv6"}})
          .gauge.value = table.classes[CTD_CLASS_INDEX(cls, f)].quota;
  return result;
}

MetricFamily expectations_by_event(const u64* counts) {
  MetricFamily result = family("ctd_expectations_total", "What became of expectations.", MetricType::Counter);
  const auto names = expect_counters();
  for (std::size_t i = 0; i < names.size(); ++i)
    add_counter(result, {{"event", std::string(names[i].name)}}, counts[i]);
  return result;
}

void add_table(std::vector<MetricFamily>& all, const TableStats& table) {
  all.push_back(gauge("ctd_connection_capacity", "Connections that the table holds.", table.size.total));
  all.push_back(by_family("ctd_connection_family_capacity", "Connections that a family may have.", table.size.ipv4,
                          table.size.ipv6));
  all.push_back(quotas(table));
  all.push_back(gauge("ctd_connection_memory_bytes", "Memory of the connection table, full or empty.",
                      static_cast<double>(table.memory)));
  all.push_back(by_family("ctd_connection_timeout_ratio", "What is left of timeouts in a table that is nearly full.",
                          scale_percent(table.timeout_scale[0]) / 100, scale_percent(table.timeout_scale[1]) / 100));
  all.push_back(by_reason("ctd_connections_ended_total", "Connections that ended, by reason.", table.counters.ended,
                          end_reasons()));
  all.push_back(by_reason("ctd_invalid_packets_total", "Packets that connection tracking found invalid, by reason.",
                          table.counters.invalid, invalid_reasons()));
  all.push_back(gauge("ctd_expectations", "Connections that are expected.", static_cast<double>(table.expectations)));
  all.push_back(expectations_by_event(table.counters.expects));
}

}  // namespace

std::string metrics_text(std::span<const PortStats> ports, const std::array<uint64_t, CTD_CLASS_COUNT>& connections,
                         const TableStats& table) {
  std::vector<MetricFamily> all;
  all.push_back(traffic("ctd_receive_packets_total", "Packets received.", ports, &ctd_port_stats::rx_packets));
  all.push_back(traffic("ctd_receive_bytes_total", "Bytes received.", ports, &ctd_port_stats::rx_bytes));
  all.push_back(traffic("ctd_transmit_packets_total", "Packets sent.", ports, &ctd_port_stats::tx_packets));
  all.push_back(traffic("ctd_transmit_bytes_total", "Bytes sent.", ports, &ctd_port_stats::tx_bytes));
  all.push_back(drops(ports));
  for (std::size_t i = 0; i < counters().size(); ++i) all.push_back(event(i, ports));
  all.push_back(by_class(connections));
  add_table(all, table);
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, all);
  return out.str();
}

}  // namespace ctd
