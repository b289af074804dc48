// SPDX-License-Identifier: Apache-2.0
// `ctctl conntrack …`: what each verb does.
#pragma once

#include <string>

#include "cli/client.hpp"
#include "cli/filter_options.hpp"
#include "cli/output.hpp"
#include "lib/result.hpp"

namespace ctd {

struct ConntrackOptions {
  FilterTerms terms;
  std::string format;
  std::string file;                  // save, restore: "-" is standard input or output
  std::string mark, label, timeout;  // update, insert
};

Result<> conntrack_dump(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_get(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_count(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_delete(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_flush(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_update(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_insert(const ConntrackOptions& options, const Client& client, Output& out);

// cli/conntrack_file.cpp
Result<> conntrack_save(const ConntrackOptions& options, const Client& client, Output& out);
Result<> conntrack_restore(const ConntrackOptions& options, const Client& client, Output& out);

// A number of an answer of the API.
Result<uint64_t> answer_number(const std::string& body, const char* member);

// "1 connection deleted", "3 connections deleted", without the end of the line.
std::string counted(uint64_t count, const char* what);

}  // namespace ctd
