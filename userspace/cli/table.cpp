// SPDX-License-Identifier: Apache-2.0
#include "cli/table.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace ctd {

Table::Table(Output& out, std::vector<Column> columns, std::size_t batch)
    : out_(out), columns_(std::move(columns)), batch_(batch) {
  for (const Column& column : columns_) widths_.push_back(column.title.size());
}

Result<> Table::add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::size_t i = 0; i < cells.size(); ++i) widths_[i] = std::max(widths_[i], cells[i].size());
  rows_.push_back(std::move(cells));
  if (rows_.size() < batch_) return {};
  return write_batch();
}

Result<> Table::finish() { return write_batch(); }

Result<> Table::write_batch() {
  if (!titles_written_) {
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.emplace_back(column.title);
    CTD_TRY(write_row(titles));
    titles_written_ = true;
  }
  for (const auto& row : rows_) CTD_TRY(write_row(row));
  rows_.clear();
  return {};
}

Result<> Table::write_row(const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string padding(widths_[i] - cells[i].size(), ' ');
    if (i) line += "  ";
    line += columns_[i].align == Align::kRight ? padding + cells[i] : cells[i] + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  line += '\n';
  return out_.write(line);
}

std::string short_count(uint64_t count) {
  if (count < 1000) return std::to_string(count);
  double value = static_cast<double>(count);
  for (const char unit : {'k', 'M', 'G', 'T', 'P', 'E'}) {
    value /= 1000;
    if (value < 9.95) return fmt::format("{:.1f}{}", value, unit);
    if (value < 999.5) return fmt::format("{:.0f}{}", value, unit);
  }
  return std::to_string(count);
}

}  // namespace ctd
