// What a template can call on values: filters (x | f), tests (x is t), and attributes and methods
// (x.a). Each table is one list of names and functions; a new one is a new line there.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>

#include "chat/value.h"

namespace venturi::chat {

using Filter = Result<Value> (*)(Meter& meter, const Value& value, const Args& args);
using Test = Result<bool> (*)(Meter& meter, const Value& value, const Args& args);

struct FilterEntry {
  std::string_view name;
  Filter filter;
};
std::initializer_list<FilterEntry> text_filters();      // filters_text.cc
std::initializer_list<FilterEntry> sequence_filters();  // filters_sequence.cc

Filter find_filter(std::string_view name);  // null if there is none
Test find_test(std::string_view name);

// value.name: a method or attribute, else an item; undefined if there is neither.
Result<Value> get_attribute(Meter& meter, const Value& value, std::string_view name);
// value[key]: an item, else an attribute; undefined if there is neither.
Result<Value> get_item(Meter& meter, const Value& value, const Value& key);

// 'format' % arguments, and 'format'.format(arguments).
Result<Value> format_percent(Meter& meter, const Text& format, const Args& args);
Result<Value> format_braces(Meter& meter, const Text& format, const Args& args);

// Arguments put in the places of their names. A missing one is null; one too many, unknown or given
// twice is an error that names the function.
class BoundArgs {
 public:
  static Result<BoundArgs> bind(const Args& args, std::string_view function,
                                std::initializer_list<std::string_view> names);
  const Value* operator[](size_t i) const { return values_[i]; }
  bool given(size_t i) const { return values_[i] != nullptr && !values_[i]->is_none(); }
  Result<int64_t> integer(size_t i, int64_t otherwise) const;
  bool flag(size_t i, bool otherwise) const { return values_[i] ? truth(*values_[i]) : otherwise; }
  Result<Text> text(size_t i, std::string_view otherwise) const;

 private:
  std::string_view function_;
  std::string_view names_[6];
  const Value* values_[6] = {};
};

}  // namespace venturi::chat
