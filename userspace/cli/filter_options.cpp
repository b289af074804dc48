// SPDX-License-Identifier: Apache-2.0
#include "cli/filter_options.hpp"

#include <string_view>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace ctd {
namespace {

constexpr char kGroup[] = "Which connections";

std::string encoded(std::string_view text) {
  constexpr std::string_view kPlain = "-._~:/,";
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       kPlain.find(c) != std::string_view::npos;
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

}  // namespace

void add_filter_options(CLI::App& app, FilterTerms& terms) {
  for (const ConnFilter::Field& field : ConnFilter::fields()) {
    const std::string names(field.option), text(field.text), name(field.name);
    if (field.value.empty()) {
      app.add_flag_callback(names, [&terms, name] { terms.push_back({name, ""}); }, text)->group(kGroup);
      continue;
    }
    CLI::Option* option =
        app.add_option_function<std::string>(
               names, [&terms, name](const std::string& value) { terms.push_back({name, value}); }, text)
            ->type_name(std::string(field.value))
            ->group(kGroup);
    if (field.value_optional()) option->expected(0, 1);
  }
  app.parse_complete_callback([&terms] {
    if (const auto filter = ConnFilter::make(terms); !filter)
      throw CLI::ValidationError(filter.error().message(), CLI::ExitCodes::ValidationError);
  });
}

std::string filter_path(const std::string& path, const FilterTerms& terms, const FilterTerms& more) {
  std::string result = path;
  for (const auto* list : {&terms, &more})
    for (const ConnFilter::Term& term : *list) {
      result += result.size() == path.size() ? '?' : '&';
      result += encoded(term.name);
      if (!term.value.empty()) result += "=" + encoded(term.value);
    }
  return result;
}

}  // namespace ctd
