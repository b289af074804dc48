// SPDX-License-Identifier: Apache-2.0
// Aligned text tables, streamed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "cli/output.hpp"
#include "lib/result.hpp"

namespace ctd {

// Rows are written in batches; a column is as wide as the widest cell so far, so that memory is bounded and a short
// table is aligned throughout.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string_view title;
    Align align = Align::kLeft;
  };

  Table(Output& out, std::vector<Column> columns, std::size_t batch = 1000);

  // cells: one for each column; those that are missing are empty.
  Result<> add(std::initializer_list<std::string_view> cells);
  // Writes what is left; the titles even if there is no row.
  Result<> finish();

 private:
  void keep(std::string_view cell);
  Result<> write_batch();

  Output& out_;
  const std::vector<Column> columns_;
  const std::size_t batch_;
  std::vector<std::size_t> widths_;
  std::string text_;                  // of the batch's cells, one after the other
  std::vector<std::size_t> lengths_;  // theirs, and before them the titles'
  std::size_t rows_ = 0;
};

// "999", "1.9k", "12M", "3.4G": at most four characters and a half.
std::string short_count(uint64_t count);

}  // namespace ctd
