// config.json of a Hugging Face directory: fields by name, null the same as absent, a field of
// another type an error that names it.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace venturi {

class HfConfig {
 public:
  HfConfig() = default;
  HfConfig(nlohmann::json json, std::string path)
      : json_(std::move(json)), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const nlohmann::json& json() const { return json_; }
  const nlohmann::json* find(std::string_view name) const;  // null if absent or null
  // The object under `name`, empty if absent.
  Result<HfConfig> object(std::string_view name) const;

  // The first of `names` that is there.
  Result<std::optional<uint64_t>> uint(std::initializer_list<std::string_view> names) const;
  Result<std::optional<double>> number(std::initializer_list<std::string_view> names) const;
  Result<std::optional<std::string>> text(std::initializer_list<std::string_view> names) const;
  Result<std::optional<bool>> flag(std::initializer_list<std::string_view> names) const;

  // Likewise, and an error if none is there.
  Result<uint64_t> need_uint(std::initializer_list<std::string_view> names) const;
  Result<double> need_number(std::initializer_list<std::string_view> names) const;

 private:
  nlohmann::json json_ = nlohmann::json::object();
  std::string path_;
};

}  // namespace venturi
