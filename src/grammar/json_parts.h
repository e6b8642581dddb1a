// Pieces of JSON texts as grammar nodes.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace venturi::grammar {

class JsonParts {
 public:
  explicit JsonParts(Grammar& grammar) : g_(grammar) {}

  int space();         // between tokens: nothing, a blank, or a line break with a bounded indent
  int value();         // anything
  int object();        // any object
  int array();         // any array
  int string();        // any string
  int string_char();   // one code point of a string, escaped or not
  int string_of(int body);                        // body between quotes
  int string_between(int min_length, int max_length);
  int number();
  int integer();
  // Integers in [low, high]; an absent end is open.
  int integer_between(std::optional<int64_t> low, std::optional<int64_t> high);
  // Numbers between whole bounds, without exponents; -1 if there is none.
  struct Bound {
    int64_t value = 0;
    bool excluded = false;
  };
  int number_between(Bound low, Bound high);
  int literal(const nlohmann::ordered_json& value) {
    return g_.bytes(value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  // Strings other than these; none of them with escapes. -1 if there is none.
  int string_except(const std::vector<std::string>& keys);
  // A code point set as it stands in a JSON string: escaped where it must be. -1 for the empty set.
  int chars(const Ranges& ranges);
  // open, items apart by commas, close.
  int pair(int key, int value);

 private:
  int once(const char* name, int (JsonParts::*make)());
  int make_space(), make_value(), make_object(), make_array(), make_string(), make_string_char(), make_number(), make_integer();
  int digits_between(const std::string& low, const std::string& high);  // of equal length
  int natural_between(uint64_t low, uint64_t high);
  int magnitude_between(const Bound& low, const Bound& high);
  int except_from(const std::vector<std::u32string>& keys, size_t depth);

  Grammar& g_;
};

}  // namespace venturi::grammar
