// Reads the golden values of tools/golden/make_ops.py.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace venturi::kernel_testing {

// `name` is a file of tests/data.
inline nlohmann::json read_golden(const char* name) {
  std::ifstream file(std::string(VENTURI_SOURCE_DIR) + "/tests/data/" + name);
  auto json = nlohmann::json::parse(file, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << name;
  return json;
}

inline std::vector<float> numbers(const nlohmann::json& array) {
  return array.get<std::vector<float>>();
}

}  // namespace venturi::kernel_testing
