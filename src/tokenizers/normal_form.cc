#include "tokenizers/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "tokenizers/utf8.h"

namespace venturi {

namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

bool composes(NormalForm form) { return form == NormalForm::kC || form == NormalForm::kKC; }

void decompose(uint32_t c, NormalForm form, CodePoints& out) {
  const bool compatible = form == NormalForm::kKC || form == NormalForm::kKD;
  const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
  utf8proc_int32_t parts[32];  // the longest decomposition is 18
  const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32,
                                         static_cast<utf8proc_option_t>(options), nullptr);
  if (n < 1 || n > 32) return out.push_back(static_cast<utf8proc_int32_t>(c));
  out.insert(out.end(), parts, parts + n);
}

// Canonical order: runs of marks by their combining class, equal ones as they stand. utf8proc's own
// takes quadratic time over a long run.
void put_in_order(CodePoints& points) {
  const auto rank = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  const auto is_mark = [&](utf8proc_int32_t c) { return rank(c) != 0; };
  for (auto at = points.begin(); at != points.end();) {
    const auto begin = std::find_if(at, points.end(), is_mark);
    at = std::find_if_not(begin, points.end(), is_mark);
    std::stable_sort(begin, at, [&](auto a, auto b) { return rank(a) < rank(b); });
  }
}

void append_normal(CodePoints& points, NormalForm form, std::string& out) {
  put_in_order(points);
  if (composes(form)) {
    const auto n = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    points.resize(static_cast<size_t>(std::max<utf8proc_ssize_t>(0, n)));
  }
  for (const utf8proc_int32_t c : points) append_utf8(static_cast<uint32_t>(c), out);
  points.clear();
}

}  // namespace

Result<NormalForm> parse_normal_form(std::string_view name) {
  constexpr std::pair<std::string_view, NormalForm> kNames[] = {{"", NormalForm::kNone},
                                                                {"NFC", NormalForm::kC},
                                                                {"NFD", NormalForm::kD},
                                                                {"NFKC", NormalForm::kKC},
                                                                {"NFKD", NormalForm::kKD}};
  for (const auto& [known, form] : kNames)
    if (name == known) return form;
  return error(Code::kUnsupported, "'{}' is no normal form; known are NFC, NFD, NFKC and NFKD",
               name);
}

std::string to_normal_form(std::string_view text, NormalForm form) {
  if (form == NormalForm::kNone || is_ascii(text)) return std::string(text);
  std::string out;
  CodePoints points;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    if (c.length != 0) {
      decompose(c.value, form, points);
      at += c.length;
      continue;
    }
    append_normal(points, form, out);
    out += text[at++];
  }
  append_normal(points, form, out);
  return out;
}

}  // namespace venturi
