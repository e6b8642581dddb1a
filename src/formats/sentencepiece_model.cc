#include "formats/sentencepiece_model.h"

#include <cmath>
#include <cstring>

namespace venturi {

namespace {

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;
  uint64_t value = 0;      // kVarint, kFixed32, kFixed64
  std::string_view bytes;  // kBytes
};

// Walks the fields of one message.
class Message {
 public:
  Message(std::string_view bytes, std::string_view whole, const std::string& path)
      : bytes_(bytes), whole_(whole), path_(path) {}

  bool done() const { return bytes_.empty(); }

  Result<Field> next() {
    const uint64_t tag = TRY(varint());
    Field field;
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wire = static_cast<uint32_t>(tag & 7);
    if (field.number == 0 || tag >> 3 > (1u << 29) - 1)
      return corrupt("a field number out of range");
    switch (field.wire) {
      case kVarint:
        field.value = TRY(varint());
        return field;
      case kFixed64:
        field.value = TRY(fixed<uint64_t>());
        return field;
      case kFixed32:
        field.value = TRY(fixed<uint32_t>());
        return field;
      case kBytes: {
        const uint64_t length = TRY(varint());
        if (length > bytes_.size())
          return corrupt(
              fmt::format("a field of {} bytes where {} are left", length, bytes_.size()));
        field.bytes = bytes_.substr(0, length);
        bytes_.remove_prefix(length);
        return field;
      }
      default:
        return corrupt(fmt::format("the unknown wire type {}", field.wire));
    }
  }

  Error corrupt(std::string_view what) const {
    return error(Code::kCorrupt, "{}: not a SentencePiece model: {} at offset {}", path_, what,
                 bytes_.data() - whole_.data());
  }

 private:
  Result<uint64_t> varint() {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) return corrupt("an unfinished number");
      const auto byte = static_cast<uint8_t>(bytes_[0]);
      bytes_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return corrupt("a number of more than ten bytes");
  }

  template <typename T>
  Result<uint64_t> fixed() {
    if (bytes_.size() < sizeof(T)) return corrupt("an unfinished number");
    T value;
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_.remove_prefix(sizeof value);
    return static_cast<uint64_t>(value);
  }

  std::string_view bytes_;
  const std::string_view whole_;
  const std::string& path_;
};

Result<SentencePiece> parse_piece(Message message) {
  SentencePiece piece;
  while (!message.done()) {
    const Field field = TRY(message.next());
    if (field.number == 1 && field.wire == kBytes) {
      piece.text = field.bytes;
    } else if (field.number == 2 && field.wire == kFixed32) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof bits);
      if (!std::isfinite(piece.score)) return message.corrupt("a score that is no number");
    } else if (field.number == 3 && field.wire == kVarint) {
      if (field.value < 1 || field.value > 6) return message.corrupt("an unknown type of piece");
      piece.type = static_cast<uint32_t>(field.value);
    }
  }
  if (piece.text.empty()) return message.corrupt("a piece without text");
  return piece;
}

Status parse_trainer(Message message, SentencePieceModel& model) {
  uint64_t type = 1;  // unigram
  while (!message.done()) {
    const Field field = TRY(message.next());
    if (field.wire != kVarint) continue;
    // Ids are 32-bit and may be -1, which is written sign-extended.
    const auto id = static_cast<int64_t>(static_cast<int32_t>(field.value));
    switch (field.number) {
      case 3:
        type = field.value;
        break;
      case 40:
        model.unk_id = id;
        break;
      case 41:
        model.bos_id = id;
        break;
      case 42:
        model.eos_id = id;
        break;
      case 43:
        model.pad_id = id;
        break;
      default:
        break;
    }
  }
  if (type != 1 && type != 2)
    return message.corrupt(fmt::format("model type {} (unigram and BPE are known)", type));
  model.is_bpe = type == 2;
  return {};
}

Status parse_normalizer(Message message, SentencePieceModel& model) {
  while (!message.done()) {
    const Field field = TRY(message.next());
    if (field.number == 2 && field.wire == kBytes) model.charsmap = field.bytes;
    if (field.number == 3 && field.wire == kVarint) model.add_dummy_prefix = field.value != 0;
    if (field.number == 4 && field.wire == kVarint)
      model.remove_extra_whitespaces = field.value != 0;
  }
  return {};
}

}  // namespace

Result<SentencePieceModel> parse_sentencepiece_model(std::string_view bytes,
                                                     const std::string& path) {
  SentencePieceModel model;
  Message message(bytes, bytes, path);
  while (!message.done()) {
    const Field field = TRY(message.next());
    if (field.wire != kBytes) continue;
    const Message inner(field.bytes, bytes, path);
    if (field.number == 1) model.pieces.push_back(TRY(parse_piece(inner)));
    if (field.number == 2) TRY(parse_trainer(inner, model));
    if (field.number == 3) TRY(parse_normalizer(inner, model));
  }
  if (model.pieces.empty()) return message.corrupt("no pieces up to the end,");
  for (int64_t* id : {&model.unk_id, &model.bos_id, &model.eos_id, &model.pad_id})
    if (*id < 0 || *id >= static_cast<int64_t>(model.pieces.size())) *id = -1;
  return model;
}

}  // namespace venturi
