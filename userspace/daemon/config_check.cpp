// SPDX-License-Identifier: Apache-2.0
#include "daemon/config_check.hpp"

#include <regex>
#include <set>
#include <string>
#include <vector>

// valijson uses <regex>, of which g++ 12 with sanitizers says that it may be uninitialized; it is not.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

using nlohmann::json;

constexpr std::size_t max_nesting = 32;

// Follows the parser through the text: what the library's result no longer shows.
class ParseWatch {
 public:
  bool operator()(json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        levels_.emplace_back();
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        levels_.pop_back();
        break;
      case json::parse_event_t::key:
        note_key(parsed.get<std::string>());
        break;
      case json::parse_event_t::value:
        break;
    }
    if (levels_.size() > max_nesting && problem_.empty())
      problem_ = fmt::format("nested more than {} deep", max_nesting);
    return problem_.empty();
  }

  const std::string& problem() const { return problem_; }

 private:
  struct Level {
    std::set<std::string> keys;
    std::string key;
  };

  void note_key(const std::string& key) {
    Level& level = levels_.back();
    if (!level.keys.insert(key).second && problem_.empty()) problem_ = fmt::format("{}: given twice", pointer_to(key));
    level.key = key;
  }

  std::string pointer_to(const std::string& key) const {
    json::json_pointer pointer;
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i) pointer /= levels_[i].key;
    return (pointer / key).to_string();
  }

  std::vector<Level> levels_;
  std::string problem_;
};

std::string type_text(std::string_view type) {
  if (type == "array" || type == "object" || type == "integer") return fmt::format("an {}", type);
  return type == "boolean" ? "true or false" : fmt::format("a {}", type);
}

bool has_type(const json& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  return type != "number" || value.is_number();
}

// One value against its own part of the schema.
class Explainer {
 public:
  explicit Explainer(const json& schema) : root_(schema) {}

  // What is wrong with the value itself (not with its members): the pointer and the rest of the message. Empty if
  // nothing is, by the keywords that are known here.
  std::string explain(const json& value, const json& schema, const json::json_pointer& at) const {
    if (schema.contains("type") && !has_type(value, schema["type"].get<std::string>()))
      return wrong(at, value, type_text(schema["type"].get<std::string>()));
    if (schema.contains("enum")) return explain_enum(value, schema, at);
    if (value.is_number()) return explain_number(value, schema, at);
    if (value.is_string()) return explain_string(value, schema, at);
    if (value.is_array()) return explain_array(value, schema, at);
    if (value.is_object()) return explain_object(value, schema, at);
    return "";
  }

  const json& resolved(const json& schema) const {
    if (!schema.contains("$ref")) return schema;
    return root_.at(json::json_pointer(schema["$ref"].get<std::string>().substr(1)));
  }

  // The part of the schema for a member of a value; null if there is none.
  const json* child(const json& schema, const std::string& key) const {
    if (schema.contains("items")) return &resolved(schema["items"]);
    if (schema.contains("properties") && schema["properties"].contains(key))
      return &resolved(schema["properties"][key]);
    return has_free_keys(schema) ? &resolved(schema["additionalProperties"]) : nullptr;
  }

 private:
  // Whether the keys of an object are names of the user's.
  static bool has_free_keys(const json& schema) {
    return schema.contains("additionalProperties") && schema["additionalProperties"].is_object();
  }

  static std::string place(const json::json_pointer& at) { return at.empty() ? "/" : at.to_string(); }

  static std::string wrong(const json::json_pointer& at, const json& value, std::string_view right) {
    return fmt::format("{}: must be {}, not {}", place(at), right, brief_json(value));
  }

  static std::string explain_enum(const json& value, const json& schema, const json::json_pointer& at) {
    std::string names;
    for (const json& allowed : schema["enum"]) {
      if (allowed == value) return "";
      names += (names.empty() ? "" : ", ") + allowed.dump();
    }
    return wrong(at, value, "one of " + names);
  }

  static std::string explain_number(const json& value, const json& schema, const json::json_pointer& at) {
    const bool low = schema.contains("minimum") && value < schema["minimum"];
    const bool high = schema.contains("maximum") && value > schema["maximum"];
    if (!low && !high) return "";
    if (!schema.contains("maximum")) return wrong(at, value, fmt::format("{} or more", schema["minimum"].dump()));
    if (!schema.contains("minimum")) return wrong(at, value, fmt::format("{} or less", schema["maximum"].dump()));
    return wrong(at, value, fmt::format("from {} to {}", schema["minimum"].dump(), schema["maximum"].dump()));
  }

  static std::string explain_string(const json& value, const json& schema, const json::json_pointer& at) {
    const std::size_t low = schema.value("minLength", std::size_t{0});
    const std::size_t high = schema.value("maxLength", std::size_t{1} << 20);
    const std::size_t length = value.get_ref<const std::string&>().size();
    if (length >= low && length <= high) return "";
    return wrong(at, value, fmt::format("{} to {} characters long", low, high));
  }

  static std::string explain_array(const json& value, const json& schema, const json::json_pointer& at) {
    const std::size_t low = schema.value("minItems", std::size_t{0});
    const std::size_t high = schema.value("maxItems", std::size_t{1} << 20);
    if (value.size() < low || value.size() > high)
      return fmt::format("{}: must have {} to {} items, not {}", place(at), low, high, value.size());
    if (!schema.value("uniqueItems", false)) return "";
    std::set<json> seen;
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (!seen.insert(value[i]).second) return fmt::format("{}: {} given twice", place(at / i), brief_json(value[i]));
    }
    return "";
  }

  std::string explain_object(const json& value, const json& schema, const json::json_pointer& at) const {
    if (has_free_keys(schema)) return explain_keys(value, schema, at);
    std::vector<std::string_view> known;
    for (const auto& [key, part] : schema["properties"].items()) known.push_back(key);
    for (const auto& [key, member] : value.items()) {
      if (schema["properties"].contains(key)) continue;
      return fmt::format("{}: unknown key{}", place(at / key), did_you_mean(key, known));
    }
    // valijson reports a wrong key of the user's at the object that holds the object with the key.
    for (const auto& [key, member] : value.items()) {
      const json& part = resolved(schema["properties"][key]);
      const std::string text = member.is_object() && has_free_keys(part) ? explain_keys(member, part, at / key) : "";
      if (!text.empty()) return text;
    }
    if (!schema.contains("required")) return "";
    for (const json& key : schema["required"]) {
      if (!value.contains(key.get<std::string>())) return fmt::format("{}: lacks the key {}", place(at), key.dump());
    }
    return "";
  }

  static std::string explain_keys(const json& value, const json& schema, const json::json_pointer& at) {
    const std::size_t most = schema.value("maxProperties", std::size_t{1} << 20);
    if (value.size() > most)
      return fmt::format("{}: must have {} members at most, not {}", place(at), most, value.size());
    if (!schema.contains("propertyNames")) return "";
    const std::regex right(schema["propertyNames"]["pattern"].get<std::string>());
    for (const auto& [key, member] : value.items()) {
      if (!std::regex_search(key, right))
        return fmt::format("{}: must be {}", place(at / key),
                           schema["propertyNames"]["description"].get<std::string>());
    }
    return "";
  }

  const json& root_;
};

// valijson says where: "<root>", "[gateway]", "[inside]", "[0]". This says what.
std::string explain_at(const json& document, const json& schema, const valijson::ValidationResults::Error& error) {
  const Explainer explainer(schema);
  const json* value = &document;
  const json* part = &schema;
  json::json_pointer at;
  for (std::size_t i = 1; i < error.context.size() && part; ++i) {
    const std::string key = error.context[i].substr(1, error.context[i].size() - 2);
    value = value->is_array() ? &value->at(std::stoul(key)) : &value->at(key);
    part = explainer.child(*part, key);
    at /= key;
  }
  const std::string text = part ? explainer.explain(*value, *part, at) : "";
  return text.empty() ? fmt::format("{}: {}", at.to_string(), error.description) : text;
}

}  // namespace

std::string brief_json(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  const std::string text = value.dump(-1, ' ', true);
  return text.size() <= 80 ? text : text.substr(0, 76) + "…";
}

Result<json> parse_json(std::string_view text) {
  ParseWatch watch;
  try {
    json document =
        json::parse(text, [&](int, json::parse_event_t event, json& parsed) { return watch(event, parsed); });
    if (!watch.problem().empty()) return fail("{}", watch.problem());
    return document;
  } catch (const json::parse_error& error) {
    const std::string_view what = error.what();
    constexpr std::string_view before = "parse error at ";
    const std::size_t at = what.find(before);
    return fail("{}", at == std::string_view::npos ? what : what.substr(at + before.size()));
  }
}

Result<> check_schema(const json& document, const json& schema) {
  valijson::Schema compiled;
  valijson::SchemaParser parser;
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(schema), compiled);
  valijson::Validator validator(valijson::Validator::kStrongTypes);
  valijson::ValidationResults results;
  const valijson::adapters::NlohmannJsonAdapter target(document);
  if (validator.validate(compiled, target, &results)) return {};
  const valijson::ValidationResults::Error* deepest = nullptr;
  for (const auto& error : results) {
    if (!deepest || error.context.size() > deepest->context.size()) deepest = &error;
  }
  if (!deepest) return fail("/: not allowed by the schema");
  return fail("{}", explain_at(document, schema, *deepest));
}

}  // namespace ctd
