#include "formats/tokenizer_json.h"

#include <algorithm>
#include <cmath>

#include "formats/byte_cursor.h"
#include "formats/json_text.h"

namespace venturi {

namespace {

using nlohmann::json;

// Builds JSON from events, except below model.vocab and model.merges, whose strings and numbers go
// to the tables.
class Handler : public nlohmann::json_sax<json> {
 public:
  explicit Handler(TokenizerJson& out) : out_(out) {}

  const std::string& problem() const { return problem_; }
  bool has_vocabulary() const {
    return std::find(seen_.begin(), seen_.end(), "vocab") != seen_.end();
  }

  bool null() override { return value(json(nullptr)); }
  bool boolean(bool v) override { return value(json(v)); }
  bool number_integer(int64_t v) override { return number(static_cast<double>(v), json(v)); }
  bool number_unsigned(uint64_t v) override { return number(static_cast<double>(v), json(v)); }
  bool number_float(double v, const string_t&) override { return number(v, json(v)); }
  bool binary(binary_t&) override { return fail("binary data"); }

  bool string(string_t& v) override {
    if (part_ == Part::kNone) return value(json(std::move(v)));
    if (part_ == Part::kVocabPairs && depth_ == 2 && items_ == 0) {
      out_.pieces.add(v);
    } else if (part_ == Part::kMerges && depth_ == 1) {
      const size_t space = v.find(' ', v.empty() ? 0 : 1);
      if (space == std::string::npos) return fail("a merge that is not two pieces");
      out_.merge_left.add(std::string_view(v).substr(0, space));
      out_.merge_right.add(std::string_view(v).substr(space + 1));
    } else if (part_ == Part::kMerges && depth_ == 2 && items_ < 2) {
      (items_ == 0 ? out_.merge_left : out_.merge_right).add(v);
    } else {
      return fail("a string where the vocabulary or the merges have none");
    }
    ++items_;
    return true;
  }

  bool key(string_t& v) override {
    if (part_ == Part::kVocabMap) {
      out_.pieces.add(v);
      return true;
    }
    key_ = std::move(v);
    return true;
  }

  bool start_object(size_t) override {
    if (part_ != Part::kNone) return fail("an object where the vocabulary or the merges have none");
    if (in_model() && key_ == "vocab") return enter(Part::kVocabMap);
    return open(json::object());
  }

  bool start_array(size_t) override {
    items_ = 0;
    if (part_ == Part::kVocabMap || depth_ >= 2)
      return fail("an array where the vocabulary or the merges have none");
    if (part_ != Part::kNone) {
      ++depth_;
      return true;
    }
    if (in_model() && key_ == "vocab") return enter(Part::kVocabPairs);
    if (in_model() && key_ == "merges") return enter(Part::kMerges);
    return open(json::array());
  }

  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return fail(fmt::format("not valid JSON at byte {}", position));
  }

 private:
  enum class Part { kNone, kVocabMap, kVocabPairs, kMerges };

  bool fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool in_model() const { return open_.size() == 2 && model_; }

  bool enter(Part part) {
    if (std::find(seen_.begin(), seen_.end(), key_) != seen_.end())
      return fail("model." + key_ + " is there twice");
    seen_.push_back(key_);
    part_ = part;
    depth_ = 1;
    return true;
  }

  // Puts `v` where the next value belongs and gives its address.
  json* place(json v) {
    if (open_.empty()) {
      out_.rest = std::move(v);
      return &out_.rest;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    json& slot = parent[key_];
    slot = std::move(v);
    return &slot;
  }

  bool value(json v) {
    if (part_ != Part::kNone) return fail("a value where the vocabulary or the merges have none");
    place(std::move(v));
    return true;
  }

  bool number(double v, json as_json) {
    if (part_ == Part::kNone) return value(std::move(as_json));
    if (part_ == Part::kVocabMap) {
      if (!(v >= 0 && v < 2147483648.0) || v != std::floor(v))
        return fail("a token id out of range");
      out_.ids.push_back(static_cast<int64_t>(v));
      return true;
    }
    if (part_ == Part::kVocabPairs && depth_ == 2 && items_ == 1 && std::isfinite(v)) {
      out_.ids.push_back(static_cast<int64_t>(out_.ids.size()));
      out_.scores.push_back(v);
      ++items_;
      return true;
    }
    return fail("a number where the vocabulary or the merges have none");
  }

  bool open(json v) {
    if (open_.size() >= static_cast<size_t>(kJsonMaxDepth)) return fail("nested too deep");
    if (open_.size() == 1) model_ = key_ == "model";
    open_.push_back(place(std::move(v)));
    return true;
  }

  bool close() {
    if (part_ == Part::kNone) {
      open_.pop_back();
      return true;
    }
    if (part_ == Part::kVocabMap && out_.ids.size() != out_.pieces.size())
      return fail("a token without an id");
    if (depth_ == 2 && items_ != 2) return fail("an entry that is not a pair");
    if (--depth_ == 0) part_ = Part::kNone;
    return true;
  }

  TokenizerJson& out_;
  Part part_ = Part::kNone;
  int depth_ = 0;  // of arrays or objects inside the part
  int items_ = 0;  // in the innermost array
  bool model_ = false;
  std::string key_;
  std::vector<std::string> seen_;
  // Containers not closed yet. A parent does not move while a child is open, so addresses hold.
  std::vector<json*> open_;
  std::string problem_;
};

Status take_added_tokens(TokenizerJson& out, const std::string& path) {
  const auto list = out.rest.find("added_tokens");
  if (list == out.rest.end() || list->is_null()) return {};
  if (!list->is_array()) return error(Code::kCorrupt, "{}: added_tokens is not an array", path);
  for (const json& entry : *list) {
    const auto id = entry.is_object() ? entry.find("id") : entry.end();
    const auto content = entry.is_object() ? entry.find("content") : entry.end();
    if (!entry.is_object() || id == entry.end() || content == entry.end() ||
        !id->is_number_unsigned() || id->get<uint64_t>() > INT32_MAX || !content->is_string())
      return error(Code::kCorrupt, "{}: added_tokens[{}]: expected an id below 2^31 and a content",
                   path, out.added.size());
    const auto special = entry.find("special");
    out.added.push_back({id->get<int64_t>(), content->get<std::string>(),
                         special != entry.end() && special->is_boolean() && special->get<bool>()});
  }
  return {};
}

Status check(const TokenizerJson& out, const std::string& path) {
  std::vector<int64_t> ids = out.ids;
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice != ids.end())
    return error(Code::kCorrupt, "{}: two pieces have the id {}", path, *twice);
  if (out.merge_left.size() != out.merge_right.size())
    return error(Code::kCorrupt, "{}: a merge that is not two pieces", path);
  return {};
}

// Files written before there was a "type" are told apart by what they hold.
std::string model_type(const TokenizerJson& out, const json& model) {
  const auto type = model.find("type");
  if (type != model.end() && type->is_string()) return type->get<std::string>();
  if (!out.scores.empty()) return "Unigram";
  return out.merge_left.size() > 0 ? "BPE" : "WordPiece";
}

}  // namespace

Result<TokenizerJson> parse_tokenizer_json(std::string_view text, const std::string& path) {
  TokenizerJson out;
  Handler handler(out);
  if (!json::sax_parse(text, &handler))
    return error(Code::kCorrupt, "{}: {}; fetch the file again", path, handler.problem());
  const auto model = out.rest.is_object() ? out.rest.find("model") : out.rest.end();
  if (!out.rest.is_object() || model == out.rest.end() || !model->is_object())
    return error(Code::kCorrupt, "{}: expected an object with an object 'model'", path);
  // What is still here was no vocabulary and no list of merges.
  for (const char* name : {"vocab", "merges"})
    if (model->contains(name) && !model->at(name).is_null())
      return error(Code::kCorrupt, "{}: model.{} is of the wrong type", path, name);
  if (!handler.has_vocabulary())
    return error(Code::kCorrupt, "{}: the model has no vocabulary", path);
  out.type = model_type(out, *model);
  TRY(take_added_tokens(out, path));
  TRY(check(out, path));
  return out;
}

}  // namespace venturi
