// SPDX-License-Identifier: Apache-2.0
#include "conn_schema.hpp"

#include <fstream>
#include <map>
#include <memory>

#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

namespace ctd::test {
namespace {

const valijson::Schema& schema(const std::string& name) {
  static std::map<std::string, std::unique_ptr<valijson::Schema>> loaded;
  auto& result = loaded[name];
  if (!result) {
    std::ifstream file(CTD_SOURCE_DIR "/docs/" + name);
    const nlohmann::json text = nlohmann::json::parse(file);
    result = std::make_unique<valijson::Schema>();
    valijson::adapters::NlohmannJsonAdapter adapter(text);
    valijson::SchemaParser(valijson::SchemaParser::kDraft7).populateSchema(adapter, *result);
  }
  return *result;
}

}  // namespace

std::vector<std::string> schema_errors(const nlohmann::json& object, const std::string& name) {
  valijson::adapters::NlohmannJsonAdapter adapter(object);
  valijson::ValidationResults results;
  std::vector<std::string> errors;
  if (valijson::Validator().validate(schema(name), adapter, &results)) return errors;
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
