// A model that is loaded, and all that answering with it takes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "chat/encode.h"
#include "chat/tools/tool_format.h"
#include "engine/embedder.h"
#include "engine/service.h"
#include "grammar/constraint.h"

namespace venturi::server {

struct ServedModel {
  std::string name;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Service> service;    // null for a model that gives embeddings alone
  std::unique_ptr<Embedder> embedder;  // null for a model that gives text alone
  const Tokenizer* tokenizer = nullptr;
  std::unique_ptr<chat::Template> chat_template;
  std::unique_ptr<chat::SegmentEncoder> segments;
  const chat::ToolFormat* tool_format = nullptr;  // that the template speaks
  bool template_takes_tools = false;
  std::vector<TokenId> tool_marks;  // control tokens that the format's marks are
  std::shared_ptr<const grammar::TokenTrie> trie;

  // Without service and embedder, which are the caller's to start.
  static Result<std::unique_ptr<ServedModel>> create(std::unique_ptr<Engine> engine, std::string name);
};

}  // namespace venturi::server
