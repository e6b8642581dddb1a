// What Python's string methods do, on Text. Results keep the mark of every character.
#pragma once

#include <functional>
#include <optional>

#include "base/result.h"
#include "chat/text.h"

namespace venturi::chat {

// Linear in the sizes, whatever the bytes are; npos if absent.
size_t find_bytes(std::string_view haystack, std::string_view needle, size_t from);
size_t rfind_bytes(std::string_view haystack, std::string_view needle);

// Each character through `map`, which appends what stands for it.
using CharMap = std::function<void(std::string& out, uint32_t code)>;
Text map_chars(const Text& text, const CharMap& map);

Text upper(const Text& text);
Text lower(const Text& text);
Text swap_case(const Text& text);
Text capitalize(const Text& text);   // first character up, the others down
Text title(const Text& text);        // str.title: a word starts after any other than a letter
Text title_words(const Text& text);  // the title filter: a word starts after blanks and - ( { [ <

// Without `chars`, whitespace.
Text strip(const Text& text, const Text* chars, bool left, bool right);
// At most `limit` cuts if it is not negative. Without a separator: at runs of whitespace.
std::vector<Text> split(const Text& text, const Text* separator, int64_t limit);
std::vector<Text> split_from_right(const Text& text, const Text* separator, int64_t limit);
std::vector<Text> split_lines(const Text& text, bool keep_ends);
Text replace(const Text& text, const Text& from, const Text& to, int64_t limit);
Text repeat(const Text& text, int64_t times);
// To `width` characters; the fill is split as Python does: left gets the odd one of an odd width.
Text pad(const Text& text, int64_t width, const Text& fill, bool left, bool right);
// Characters begin, begin + step, … as Python's slices; null bounds are open. step is not 0.
Text slice_chars(const Text& text, std::optional<int64_t> begin, std::optional<int64_t> end,
                 int64_t step);
// The positions a slice takes of `size` items.
std::vector<size_t> slice_positions(size_t size, std::optional<int64_t> begin,
                                    std::optional<int64_t> end, int64_t step);

}  // namespace venturi::chat
