#include "engine/request_store.h"

#include <cassert>
#include <utility>

namespace venturi {

RequestStore::RequestStore(Engine& engine, Look look)
    : engine_(engine),
      cache_(engine.prefix_cache()),
      kept_(engine.kept_states()),
      look_(std::move(look)) {}

RequestStore::~RequestStore() {
  for (auto& [id, held] : held_)
    if (held.arriving) cache_->abandon(std::move(held.arriving));
  if (cache_) cache_->wait();
}

bool RequestStore::can_ever_hold(int64_t tokens) const {
  return tokens <= engine_.options().context;
}

namespace {

// What another adapter computed is another prefix.
uint64_t kind(const KnownRequest& request) {
  return request.adapter ? request.adapter->number() : 0;
}

}  // namespace

// A sequence for a request that has none.
bool RequestStore::start(RequestId id, Held& held) {
  if (held.state) return true;
  auto made = engine_.new_sequence();
  if (made) held.state = std::move(made).value();
  held.cursor = {.kind = kind(*look_(id))};
  return held.state != nullptr;
}

int64_t RequestStore::attach(RequestId id) {
  Held& held = held_[id];
  const KnownRequest request = *look_(id);
  // One is left to compute: its logits are what is wanted.
  const int64_t most = static_cast<int64_t>(request.tokens.size()) - 1;
  // Whose prompt's logprobs are wanted computes all of it.
  if (request.logs_prompt) return 0;
  if (kept_) {
    held.cursor = {.kind = kind(request)};
    held.state = kept_->take(request.tokens, most, held.cursor.kind);
    return held.state ? held.state->length() : 0;
  }
  if (!cache_ || !start(id, held)) return 0;
  held.arriving = cache_->begin_attach(request.tokens, most, held.cursor);
  return held.arriving ? PrefixCache::tokens(*held.arriving) : 0;
}

bool RequestStore::reserve(RequestId id, int64_t tokens) {
  Held& held = held_[id];
  if (!start(id, held)) return false;
  while (!held.state->reserve(tokens).ok())
    if (!kept_ || !kept_->drop_oldest()) return false;
  return true;
}

void RequestStore::release(RequestId id) {
  Held& held = held_[id];
  publish(id, true);
  if (held.arriving) cache_->abandon(std::move(held.arriving));
  if (held.moved) cache_->let_go(*held.moved);
  if (kept_ && !held.computed.empty())
    kept_->put(std::move(held.state), held.computed, held.cursor.kind);
  held_.erase(id);
}

bool RequestStore::move_out(RequestId id) {
  Held& held = held_[id];
  if (!cache_ || !held.state || held.state->length() == 0) return false;
  held.moved = cache_->move_out(*held.state, look_(id)->tokens, held.cursor);
  if (held.moved) held.state.reset();
  return held.moved.has_value();
}

StateStore::MoveIn RequestStore::move_in(RequestId id) {
  Held& held = held_[id];
  if (!start(id, held)) return MoveIn::kNoRoom;
  held.arriving = cache_->begin_move_in(*held.moved, held.cursor);
  if (held.arriving) return MoveIn::kDone;
  held.state.reset();
  return MoveIn::kNoRoom;
}

StateStore::Arrival RequestStore::arrival(RequestId id) {
  const auto at = held_.find(id);
  if (at == held_.end() || !at->second.arriving) return Arrival::kHere;
  Held& held = at->second;
  if (!PrefixCache::here(*held.arriving)) return Arrival::kComing;
  const Status status =
      cache_->finish(std::exchange(held.arriving, nullptr), *held.state, held.cursor);
  if (held.moved) cache_->let_go(*held.moved);
  held.moved.reset();
  if (status) return Arrival::kHere;
  held_.erase(at);
  return Arrival::kLost;
}

void RequestStore::publish(RequestId id, bool ending) {
  const auto at = held_.find(id);
  const auto request = look_(id);
  if (at == held_.end() || !request || !at->second.state) return;
  Held& held = at->second;
  if (cache_) cache_->publish(*held.state, request->tokens, held.cursor, ending);
  if (kept_ && ending)
    held.computed.assign(request->tokens.begin(), request->tokens.begin() + held.state->length());
}

void RequestStore::truncate(RequestId id, int64_t tokens) {
  [[maybe_unused]] const bool done = held_.at(id).state->truncate(tokens);
  assert(done);
}

int64_t RequestStore::tokens() const {
  const StatePool& pool = engine_.state_pool();
  if (pool.shared_pages() > 0 && !kept_)
    return (pool.shared_pages() - pool.pages_to_have()) * kPageTokens;
  int64_t n = 0;
  for (const auto& [id, held] : held_) n += held.state ? held.state->length() : 0;
  return n;
}

}  // namespace venturi
