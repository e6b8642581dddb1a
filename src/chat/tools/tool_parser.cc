#include "chat/tools/tool_parser.h"

#include <algorithm>

namespace venturi::chat {

namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMaxHeld = 1 << 16;  // of a call whose name is not known yet

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

void add(ToolEvents& events, ToolEvent::Kind kind, std::string_view text) {
  const bool joins = kind == ToolEvent::Kind::kText || kind == ToolEvent::Kind::kArguments;
  if (joins && text.empty()) return;
  if (joins && !events.empty() && events.back().kind == kind) {
    events.back().text += text;
  } else {
    events.push_back({.kind = kind, .text = std::string(text)});
  }
}

}  // namespace

CallReader::State CallReader::push(char c, ToolEvents& events) {
  raw_ += c;
  if (!announced_ && raw_.size() > kMaxHeld) return State::kFailed;
  if (at_ == At::kValue && !(token_.empty() && is_space(c))) return value(c, events);
  if (at_ == At::kKey && !token_.empty()) {
    token_ += c;
    if (escaped_ || c == '\\') {
      escaped_ = !escaped_;
    } else if (c == '"') {
      const Json key = Json::parse(token_, nullptr, false);
      if (!key.is_string()) return State::kFailed;
      key_ = key.get<std::string>();
      // Another object is not waited for.
      if (std::exchange(first_, false) && !is_name() && !is_arguments() && key_ != "type" &&
          key_ != "id")
        return State::kFailed;
      at_ = At::kColon;
    }
    return State::kReading;
  }
  if (is_space(c)) return State::kReading;
  switch (at_) {
    case At::kBegin:
      if (c != '{') return State::kFailed;
      at_ = At::kKey;
      return State::kReading;
    case At::kKey:
      if (c != '"') return State::kFailed;
      token_ = c;
      return State::kReading;
    case At::kColon:
      if (c != ':') return State::kFailed;
      at_ = At::kValue;
      token_.clear();
      streams_ = false;
      return State::kReading;
    case At::kComma:
      if (c == '}') return object_ended(events);
      if (c != ',') return State::kFailed;
      at_ = At::kKey;
      token_.clear();
      return State::kReading;
    case At::kValue:
      break;
  }
  return State::kFailed;
}

CallReader::State CallReader::value(char c, ToolEvents& events) {
  const bool begins = token_.empty();
  if (begins && is_arguments() && !has_arguments_ && announced_ && c == '{') streams_ = true;
  const bool scalar = !begins && depth_ == 0 && !quoted_;
  if (scalar && (c == ',' || c == '}' || is_space(c))) return scalar_or_end(c, events);
  token_ += c;
  if (streams_) add(events, ToolEvent::Kind::kArguments, {&c, 1});
  if (quoted_) {
    if (escaped_ || c == '\\') {
      escaped_ = !escaped_;
    } else if (c == '"') {
      quoted_ = false;
      if (depth_ == 0) return value_ended(events);
    }
  } else if (c == '"') {
    quoted_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    if (--depth_ < 0) return State::kFailed;
    if (depth_ == 0) return value_ended(events);
  }
  return State::kReading;
}

// A number, true, false or null has ended before `c`.
CallReader::State CallReader::scalar_or_end(char c, ToolEvents& events) {
  if (value_ended(events) == State::kFailed) return State::kFailed;
  if (is_space(c)) return State::kReading;
  if (c == '}') return object_ended(events);
  at_ = At::kKey;
  token_.clear();
  return State::kReading;
}

CallReader::State CallReader::value_ended(ToolEvents& events) {
  at_ = At::kComma;
  const std::string value = std::exchange(token_, {});
  if (std::exchange(streams_, false)) {
    has_arguments_ = true;
    return State::kReading;
  }
  if (is_name() && !has_name_) {
    const Json name = Json::parse(value, nullptr, false);
    if (!name.is_string()) return State::kFailed;
    name_ = name.get<std::string>();
    if (name_.empty() ||
        (!names_->empty() && std::find(names_->begin(), names_->end(), name_) == names_->end()))
      return State::kFailed;
    has_name_ = true;
    announced_ = true;
    add(events, ToolEvent::Kind::kCall, name_);
    if (has_arguments_) add(events, ToolEvent::Kind::kArguments, arguments_);
    return State::kReading;
  }
  if (is_arguments() && !has_arguments_) {
    const Json read = Json::parse(value, nullptr, false);
    if (read.is_discarded()) return State::kFailed;
    has_arguments_ = true;
    // Some write the object as a string of JSON.
    arguments_ = read.is_string() ? read.get<std::string>() : read.is_null() ? "{}" : value;
    if (announced_) add(events, ToolEvent::Kind::kArguments, arguments_);
  }
  return State::kReading;
}

CallReader::State CallReader::object_ended(ToolEvents& events) {
  if (!announced_) return State::kFailed;
  if (!has_arguments_) add(events, ToolEvent::Kind::kArguments, "{}");
  add(events, ToolEvent::Kind::kCallEnd, "");
  return State::kDone;
}

void CallReader::cut(ToolEvents& events) const {
  events.push_back({.kind = ToolEvent::Kind::kCallEnd, .whole = has_arguments_});
}

namespace {
const std::vector<std::string> kAnyName;
}  // namespace

ToolParser::ToolParser(const ToolFormat& format, std::vector<std::string> names, bool inside)
    : format_(format),
      names_(std::move(names)),
      state_(inside ? State::kInside : State::kStart),
      reader_(&kAnyName) {}

void ToolParser::push(std::string_view text, ToolEvents& events) {
  for (const char c : text) step(c, events);
}

void ToolParser::step(char c, ToolEvents& events) {
  switch (state_) {
    case State::kStart:
      if (is_space(c)) {
        blank_ += c;
        return;
      }
      state_ = State::kText;
      if (format_.bare && (c == '{' || c == '[')) {
        bare_ = true;
        held_ = c;
        state_ = State::kInside;
        if (c == '{') {
          held_.clear();
          inside(c, events);
        }
        return;
      }
      return text(c, events);
    case State::kText:
      return text(c, events);
    case State::kInside:
      return inside(c, events);
    case State::kCall:
      return call(c, events);
  }
}

void ToolParser::text(char c, ToolEvents& events) {
  const std::string& begin = format_.begin;
  mark_ += c;
  if (!begin.empty() && begin.starts_with(mark_)) {
    if (mark_.size() < begin.size()) return;
    held_ = std::exchange(mark_, {});
    bare_ = false;
    state_ = State::kInside;
    return;
  }
  // The longest end of what waits that begins the mark goes on waiting.
  size_t keep = 0;
  for (size_t n = std::min(begin.size(), mark_.size()); n > 0 && keep == 0; --n)
    if (begin.starts_with(std::string_view(mark_).substr(mark_.size() - n))) keep = n;
  emit_text(std::string_view(mark_).substr(0, mark_.size() - keep), events);
  mark_.erase(0, mark_.size() - keep);
}

void ToolParser::inside(char c, ToolEvents& events) {
  if (c == '{' && mark_.empty()) {
    reader_ = CallReader(bare_ ? &names_ : &kAnyName);
    state_ = State::kCall;
    return call(c, events);
  }
  held_ += c;
  mark_ += c;
  if (!format_.end.empty() && format_.end.starts_with(mark_)) {
    if (mark_.size() < format_.end.size()) return;
    mark_.clear();
    if (any_)
      held_.clear();
    else
      give_up(events);
    state_ = State::kText;
    return;
  }
  const bool between = is_space(c) || c == ',' || c == ';' || c == '[' || c == ']';
  if (mark_.size() == 1 && between) {
    mark_.clear();
    return;
  }
  // Neither a call nor the end. After calls, only what is not between them is text.
  if (any_) held_ = mark_;
  give_up(events);
}

void ToolParser::call(char c, ToolEvents& events) {
  const bool before = reader_.announced();
  switch (reader_.push(c, events)) {
    case CallReader::State::kReading:
      if (!before && reader_.announced()) {
        any_ = true;
        held_.clear();
        blank_.clear();
      }
      return;
    case CallReader::State::kDone:
      any_ = true;
      state_ = State::kInside;
      return;
    case CallReader::State::kFailed:
      if (before) {  // what was passed on stays a call, cut off
        reader_.cut(events);
        held_.clear();
      } else {
        held_ += reader_.raw();
      }
      return give_up(events);
  }
}

// What was held is text after all.
void ToolParser::give_up(ToolEvents& events) {
  state_ = State::kText;
  mark_.clear();
  emit_text(std::exchange(held_, {}), events);
}

void ToolParser::emit_text(std::string_view text, ToolEvents& events) {
  for (const char c : text) {
    if (is_space(c)) {
      blank_ += c;
    } else {
      add(events, ToolEvent::Kind::kText, std::exchange(blank_, {}));
      add(events, ToolEvent::Kind::kText, {&c, 1});
    }
  }
}

void ToolParser::finish(ToolEvents& events, bool calls_only) {
  if (state_ == State::kCall && reader_.announced()) {
    reader_.cut(events);
  } else if (calls_only) {
    held_.clear();
    mark_.clear();
    blank_.clear();
  } else if (state_ == State::kCall) {
    held_ += reader_.raw();
    give_up(events);
  } else if (state_ == State::kInside && !any_) {
    give_up(events);
  } else if (state_ == State::kText) {
    emit_text(std::exchange(mark_, {}), events);
  }
  state_ = State::kText;
  if (!any_) add(events, ToolEvent::Kind::kText, std::exchange(blank_, {}));
}

}  // namespace venturi::chat
