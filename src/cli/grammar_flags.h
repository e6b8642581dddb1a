// What the output must look like: a grammar or a JSON Schema, spelt as people know the flags.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

#include "grammar/constraint.h"

namespace venturi {

struct GrammarFlags {
  std::string grammar, grammar_file, schema, schema_file;

  void add(CLI::App& app);
  // Null where none was asked for. Each call begins a text anew.
  Result<std::unique_ptr<grammar::Constraint>> constraint(const Tokenizer& tokenizer) const;
};

}  // namespace venturi
