// SPDX-License-Identifier: Apache-2.0
#include "conn_schema.hpp"

#include <fstream>

#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

namespace ctd::test {
namespace {

const valijson::Schema& schema() {
  static const auto* loaded = [] {
    std::ifstream file(CTD_SOURCE_DIR "/docs/conntrack.schema.json");
    const nlohmann::json text = nlohmann::json::parse(file);
    auto* result = new valijson::Schema;
    valijson::adapters::NlohmannJsonAdapter adapter(text);
    valijson::SchemaParser(valijson::SchemaParser::kDraft7).populateSchema(adapter, *result);
    return result;
  }();
  return *loaded;
}

}  // namespace

std::vector<std::string> schema_errors(const nlohmann::json& object) {
  valijson::adapters::NlohmannJsonAdapter adapter(object);
  valijson::ValidationResults results;
  std::vector<std::string> errors;
  if (valijson::Validator().validate(schema(), adapter, &results)) return errors;
  valijson::ValidationResults::Error error;
  while (results.popError(error)) {
    std::string where;
    for (const std::string& part : error.context) where += part;
    errors.push_back(where + ": " + error.description);
  }
  if (errors.empty()) errors.push_back("refused without a reason");
  return errors;
}

}  // namespace ctd::test
