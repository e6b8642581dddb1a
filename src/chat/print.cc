#include "chat/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace venturi::chat {

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto [end, status] =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shortest.find('e');
  int exponent = 0;
  const char* first = shortest.data() + e + (shortest[e + 1] == '+' ? 2 : 1);
  std::from_chars(first, end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);  // two digits at least in both
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string text(buffer, fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

namespace {

void append_number(Text& out, const Value& value) {
  if (const auto* i = value.as<int64_t>()) {
    out.append(fmt::format("{}", *i), false);
  } else {
    out.append(float_repr(*value.as<double>()), false);
  }
}

void append_quoted(Text& out, const Text& text) {
  const std::string_view s = text.bytes();
  const bool has_single = s.find('\'') != std::string_view::npos;
  const char quote = has_single && s.find('"') == std::string_view::npos ? '"' : '\'';
  TaintCursor taint(text);
  out.append(std::string_view(&quote, 1), false);
  for (size_t i = 0; i < s.size();) {
    const Char c = char_at(s, i);
    std::string piece(s.substr(i, c.length));
    if (c.code == static_cast<uint8_t>(quote) || c.code == '\\') {
      piece.insert(piece.begin(), '\\');
    } else if (c.code == '\n' || c.code == '\r' || c.code == '\t') {
      piece = c.code == '\n' ? "\\n" : (c.code == '\r' ? "\\r" : "\\t");
    } else if (!c.valid || !is_printable(c.code)) {
      piece = c.code <= 0xff     ? fmt::format("\\x{:02x}", c.code)
              : c.code <= 0xffff ? fmt::format("\\u{:04x}", c.code)
                                 : fmt::format("\\U{:08x}", c.code);
    }
    out.append(piece, taint.at(i));
    i += c.length;
  }
  out.append(std::string_view(&quote, 1), false);
}

void append_repr(Meter& meter, Text& out, const Value& value) {
  if (!meter.spend(1) || out.overflowed()) return;
  if (value.is_none()) return out.append("None", false);
  if (value.is_undefined()) return out.append("Undefined", false);
  if (const bool* b = value.as<bool>()) return out.append(*b ? "True" : "False", false);
  if (value.is_number()) return append_number(out, value);
  if (const Text* t = value.text()) {
    meter.spend(t->size() / 8);
    return append_quoted(out, *t);
  }
  if (const List* l = value.list()) {
    const bool is_tuple = l->kind == ListKind::kTuple;
    out.append(is_tuple ? "(" : "[", false);
    for (size_t i = 0; i < l->items.size(); ++i) {
      if (i) out.append(", ", false);
      append_repr(meter, out, l->items[i]);
    }
    if (is_tuple && l->items.size() == 1) out.append(",", false);
    return out.append(is_tuple ? ")" : "]", false);
  }
  if (const Dict* d = value.dict()) {
    out.append("{", false);
    bool first = true;
    for (const auto& [key, item] : d->items) {
      if (!std::exchange(first, false)) out.append(", ", false);
      append_repr(meter, out, key);
      out.append(": ", false);
      append_repr(meter, out, item);
    }
    return out.append("}", false);
  }
  out.append(fmt::format("<{}>", value.type_name()),
             false);  // never its parts: they may form a cycle
}

class JsonWriter {
 public:
  JsonWriter(Meter& meter, const JsonStyle& style) : meter_(meter), style_(style) {}

  Status write(const Value& value, int level) {
    if (!meter_.spend(1)) return meter_.error();
    if (out.overflowed()) return error(Code::kInvalidArgument, "tojson makes more than 64 MiB");
    if (value.is_none()) {
      out.append("null", false);
    } else if (const bool* b = value.as<bool>()) {
      out.append(*b ? "true" : "false", false);
    } else if (value.is_number()) {
      write_number(value);
    } else if (const Text* t = value.text()) {
      meter_.spend(t->size() / 8);
      write_text(*t);
    } else if (const List* l = value.list(); l && l->kind <= ListKind::kTuple) {
      return write_list(*l, level);
    } else if (const Dict* d = value.dict()) {
      return write_dict(*d, level);
    } else {
      return error(Code::kInvalidArgument, "tojson cannot write a {}", value.type_name());
    }
    return {};
  }

  Text out;

 private:
  void write_number(const Value& value) {
    const double* d = value.as<double>();
    if (d && std::isnan(*d)) return out.append("NaN", false);
    if (d && std::isinf(*d)) return out.append(*d < 0 ? "-Infinity" : "Infinity", false);
    append_number(out, value);
  }

  void write_text(const Text& text) {
    const std::string_view s = text.bytes();
    TaintCursor taint(text);
    out.append("\"", false);
    for (size_t i = 0; i < s.size();) {
      const Char c = char_at(s, i);
      out.append(escaped(c, s.substr(i, c.length)), taint.at(i));
      i += c.length;
    }
    out.append("\"", false);
  }

  std::string escaped(Char c, std::string_view bytes) const {
    constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
    constexpr std::string_view kTo = "\"\\nrtfb";
    if (c.code < 0x80) {
      const size_t k = kFrom.find(static_cast<char>(c.code));
      if (k != std::string_view::npos) return {'\\', kTo[k]};
      if (c.code < 0x20) return fmt::format("\\u{:04x}", c.code);
    }
    if (!style_.ascii_only || c.code < 0x80) return std::string(bytes);
    if (c.code <= 0xffff) return fmt::format("\\u{:04x}", c.code);
    const uint32_t v = c.code - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (v >> 10), 0xdc00 + (v & 0x3ff));
  }

  void new_line(int level) {
    if (style_.indent < 0) return;
    out.append("\n", false);
    out.append(std::string(static_cast<size_t>(level * style_.indent), ' '), false);
  }

  Status write_list(const List& list, int level) {
    out.append("[", false);
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i) out.append(style_.item_separator);
      new_line(level + 1);
      if (auto status = write(list.items[i], level + 1); !status) return status;
    }
    if (!list.items.empty()) new_line(level);
    out.append("]", false);
    return {};
  }

  Status write_dict(const Dict& dict, int level) {
    std::vector<const Dict::Item*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      for (const auto* item : items)
        if (!item->first.text())
          return error(Code::kInvalidArgument, "tojson can sort only string keys");
      std::stable_sort(items.begin(), items.end(), [](const auto* a, const auto* b) {
        return a->first.text()->bytes() < b->first.text()->bytes();
      });
    }
    out.append("{", false);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out.append(style_.item_separator);
      new_line(level + 1);
      if (auto status = write_key(items[i]->first); !status) return status;
      out.append(style_.key_separator);
      if (auto status = write(items[i]->second, level + 1); !status) return status;
    }
    if (!items.empty()) new_line(level);
    out.append("}", false);
    return {};
  }

  Status write_key(const Value& key) {
    if (const Text* t = key.text()) {
      write_text(*t);
      return {};
    }
    if (!key.is_none() && !key.is_number())
      return error(Code::kInvalidArgument, "tojson cannot write a {} as a key", key.type_name());
    out.append("\"", false);
    if (auto status = write(key, 0); !status) return status;
    out.append("\"", false);
    return {};
  }

  Meter& meter_;
  const JsonStyle& style_;
};

}  // namespace

Text to_text(Meter& meter, const Value& value) {
  if (const Text* t = value.text()) return *t;
  if (value.is_undefined()) return {};
  return to_repr(meter, value);
}

Text to_repr(Meter& meter, const Value& value) {
  Text out;
  append_repr(meter, out, value);
  return out;
}

Result<Text> to_json(Meter& meter, const Value& value, const JsonStyle& style) {
  JsonWriter writer(meter, style);
  if (auto status = writer.write(value, 0); !status) return std::move(status).error();
  return std::move(writer.out);
}

}  // namespace venturi::chat
