// A grammar as a value: what GBNF texts and JSON Schemas become, and what an Automaton is made of.
//
// Nodes are numbers into Grammar::nodes, made by the functions below; rules have names and may
// refer to one another before they are defined. Terminals are sets of Unicode code points or
// literal bytes. Threads: a plain value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi::grammar {

inline constexpr uint32_t kLastCodePoint = 0x10FFFF;
inline constexpr int kUnbounded = -1;

struct Range {
  uint32_t first = 0, last = 0;  // both included
};

using Ranges = std::vector<Range>;

Ranges sorted_union(Ranges ranges);      // ascending, apart
Ranges complement(const Ranges& ranges);  // of all code points
Ranges intersection(const Ranges& a, const Ranges& b);

struct Node {
  enum class Kind { kBytes, kClass, kRule, kSequence, kChoice, kRepeat } kind = Kind::kSequence;
  std::string bytes = {};          // kBytes
  Ranges ranges = {};              // kClass: sorted and apart
  int rule = 0;                    // kRule
  std::vector<int> children = {};  // kSequence, kChoice; kRepeat: one
  int min = 0, max = 0;       // kRepeat; max may be kUnbounded
};

class Grammar {
 public:
  struct Rule {
    std::string name;
    int node = -1;  // -1: referred to but not defined
  };

  int bytes(std::string_view text);
  int any_of(Ranges ranges);
  int sequence(std::vector<int> children);
  int choice(std::vector<int> children);
  int repeat(int child, int min, int max);
  int optional(int child) { return repeat(child, 0, 1); }
  int empty() { return sequence({}); }
  // What `root` of another grammar produces; its rules come under names that begin with `prefix`.
  int embed(const Grammar& other, const std::string& prefix);

  int rule(const std::string& name);  // its number; made where it is new
  int reference(const std::string& name);
  void define(const std::string& name, int node);
  bool defined(const std::string& name) const;

  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Rule>& rules() const { return rules_; }

 private:
  int add(Node node);

  std::vector<Node> nodes_;
  std::vector<Rule> rules_;
  std::map<std::string, int> by_name_;
};

// GBNF, as llama.cpp writes it: rules `name ::= …`; literals, classes, `.`, ( ), |, * + ? {m,n}, #
// comments; the rule `root` is where a text begins. Errors name line and column.
Result<Grammar> parse_gbnf(std::string_view text);

}  // namespace venturi::grammar
