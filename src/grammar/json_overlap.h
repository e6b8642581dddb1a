// Which values JSON Schemas admit, as far as oneOf and a type beside branches need to know.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace venturi::grammar {

// Sets of kinds of JSON values.
using Kinds = uint32_t;
namespace kind {
inline constexpr Kinds kObject = 1, kArray = 2, kString = 4, kInteger = 8, kFraction = 16, kBoolean = 32, kNull = 64, kAll = 127;
}  // namespace kind

// Of a `type`; none where it is not one.
Kinds kinds_of_type(const std::string& type);
// The types that stand for a set of kinds: those of them that there are.
std::vector<std::string> types_of_kinds(Kinds kinds);

class SchemaValues {
 public:
  // `root`: what $ref begins at; it outlives this.
  explicit SchemaValues(const nlohmann::ordered_json& root) : root_(root) {}

  // No fewer than there are of what a schema admits; with `meant`, of what a grammar for it produces: where it has no type, what it
  // speaks of is what is meant.
  Kinds kinds(const nlohmann::ordered_json& schema, bool meant) const { return kinds(schema, meant, 0); }

  // That no value produced for one is admitted by the other: by kind, by const and enum, by a property that one demands
  // and the other does not have, or one whose schemas are apart. False where that is not seen.
  bool apart(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b) const { return apart(a, b, 0) && apart(b, a, 0); }

 private:
  using Json = nlohmann::ordered_json;
  Kinds kinds(const Json& schema, bool meant, int depth) const;
  const Json* resolved(const Json& schema) const;
  bool apart(const Json& produced, const Json& admitted, int depth) const;
  bool objects_apart(const Json& produced, const Json& admitted, int depth) const;

  bool spend(size_t work) const;

  const Json& root_;
  mutable int64_t left_ = 1 << 20;  // steps; after those nothing is known
};

}  // namespace venturi::grammar
