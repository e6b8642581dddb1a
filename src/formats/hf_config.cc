#include "formats/hf_config.h"

#include <cmath>

#include "formats/byte_cursor.h"

namespace venturi {

namespace {

struct Found {
  std::string_view name;
  const nlohmann::json* value = nullptr;
};

Found first_of(const HfConfig& config, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    if (const nlohmann::json* value = config.find(name)) return {name, value};
  return {};
}

Error wrong(const HfConfig& config, const Found& found, std::string_view expected) {
  return error(Code::kCorrupt, "{}: field '{}': expected {}, found {}", config.path(), found.name,
               expected,
               shown(found.value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

Error missing(const HfConfig& config, std::initializer_list<std::string_view> names) {
  return error(Code::kCorrupt, "{}: the field '{}' is missing", config.path(), *names.begin());
}

}  // namespace

const nlohmann::json* HfConfig::find(std::string_view name) const {
  const auto it = json_.find(name);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

Result<HfConfig> HfConfig::object(std::string_view name) const {
  const nlohmann::json* value = find(name);
  if (!value) return HfConfig(nlohmann::json::object(), path_);
  if (!value->is_object()) return wrong(*this, {name, value}, "an object");
  return HfConfig(*value, path_);
}

Result<std::optional<uint64_t>> HfConfig::uint(
    std::initializer_list<std::string_view> names) const {
  const Found found = first_of(*this, names);
  if (!found.value) return std::optional<uint64_t>();
  if (!found.value->is_number_unsigned()) return wrong(*this, found, "an integer >= 0");
  return std::optional(found.value->get<uint64_t>());
}

Result<std::optional<double>> HfConfig::number(
    std::initializer_list<std::string_view> names) const {
  const Found found = first_of(*this, names);
  if (!found.value) return std::optional<double>();
  if (!found.value->is_number() || !std::isfinite(found.value->get<double>()))
    return wrong(*this, found, "a number");
  return std::optional(found.value->get<double>());
}

Result<std::optional<std::string>> HfConfig::text(
    std::initializer_list<std::string_view> names) const {
  const Found found = first_of(*this, names);
  if (!found.value) return std::optional<std::string>();
  if (!found.value->is_string()) return wrong(*this, found, "a string");
  return std::optional(found.value->get<std::string>());
}

Result<std::optional<bool>> HfConfig::flag(std::initializer_list<std::string_view> names) const {
  const Found found = first_of(*this, names);
  if (!found.value) return std::optional<bool>();
  if (!found.value->is_boolean()) return wrong(*this, found, "true or false");
  return std::optional(found.value->get<bool>());
}

Result<uint64_t> HfConfig::need_uint(std::initializer_list<std::string_view> names) const {
  const auto value = TRY(uint(names));
  if (!value) return missing(*this, names);
  return *value;
}

Result<double> HfConfig::need_number(std::initializer_list<std::string_view> names) const {
  const auto value = TRY(number(names));
  if (!value) return missing(*this, names);
  return *value;
}

}  // namespace venturi
