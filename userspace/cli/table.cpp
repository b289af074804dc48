// SPDX-License-Identifier: Apache-2.0
#include "cli/table.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace ctd {

Table::Table(Output& out, std::vector<Column> columns, std::size_t batch)
    : out_(out), columns_(std::move(columns)), batch_(batch), widths_(columns_.size()) {
  for (const Column& column : columns_) keep(column.title);
}

void Table::keep(std::string_view cell) {
  std::size_t& width = widths_[lengths_.size() % columns_.size()];
  width = std::max(width, cell.size());
  text_ += cell;
  lengths_.push_back(cell.size());
}

Result<> Table::add(std::initializer_list<std::string_view> cells) {
  for (const std::string_view cell : cells) keep(cell);
  while (lengths_.size() % columns_.size()) keep({});
  if (++rows_ < batch_) return {};
  return write_batch();
}

Result<> Table::finish() { return write_batch(); }

Result<> Table::write_batch() {
  std::string_view rest = text_;
  std::string line;
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    const std::size_t column = i % columns_.size(), padding = widths_[column] - lengths_[i];
    if (column) line += "  ";
    if (columns_[column].align == Align::kRight) line.append(padding, ' ');
    line += rest.substr(0, lengths_[i]);
    rest.remove_prefix(lengths_[i]);
    if (columns_[column].align == Align::kLeft) line.append(padding, ' ');
    if (column + 1 < columns_.size()) continue;
    line.erase(line.find_last_not_of(' ') + 1);
    line += '\n';
    CTD_TRY(out_.write(line));
    line.clear();
  }
  text_.clear();
  lengths_.clear();
  rows_ = 0;
  return {};
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
