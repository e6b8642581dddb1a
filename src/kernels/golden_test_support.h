// Reads the golden values of tools/golden/make_ops.py.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace venturi::kernel_testing {

// Part `key` of the file `name` in tests/data; by value, so that a range-for over it keeps it alive.
inline nlohmann::json read_golden(const char* name, const char* key) {
  std::ifstream file(std::string(VENTURI_SOURCE_DIR) + "/tests/data/" + name);
  auto json = nlohmann::json::parse(file, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << name;
  return json[key];
}

inline std::vector<float> numbers(const nlohmann::json& array) {
  return array.get<std::vector<float>>();
}

}  // namespace venturi::kernel_testing
