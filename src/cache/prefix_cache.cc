#include "cache/prefix_cache.h"

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <mutex>

#include "base/clock.h"

namespace venturi {

namespace {

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto end = a.begin() + static_cast<int64_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), end, b.begin()).first - a.begin();
}

std::span<const int32_t> block_of(std::span<const int32_t> tokens, int64_t block) {
  const auto begin = static_cast<size_t>(block * kPageTokens);
  return tokens.subspan(begin, std::min<size_t>(kPageTokens, tokens.size() - begin));
}

}  // namespace

Result<std::unique_ptr<PrefixCache>> PrefixCache::create(std::shared_ptr<StatePool> pool,
                                                         const PrefixCacheOptions& options) {
  assert(pool->shares_prefixes());
  std::unique_ptr<PrefixCache> cache(new PrefixCache(std::move(pool)));
  StatePool& p = *cache->pool_;
  for (size_t slot = 0; slot < p.slots().size(); ++slot)
    cache->block_bytes_ += p.page(slot, 0).size();
  if (options.place) {
    cache->file_.emplace(TRY(ScratchFile::create(*options.place)));
    const uint64_t room = cache->file_->room() / 4 * 3 / cache->block_bytes_;
    const int64_t wanted = options.file_blocks > 0 ? options.file_blocks : 4 * p.shared_pages();
    cache->file_limit_ =
        static_cast<int64_t>(std::min<uint64_t>(room, static_cast<uint64_t>(wanted)));
    cache->disk_ = TRY(DiskReader::create(options.disk));
    TRY(cache->disk_->add(cache->file_->file()));
  }
  p.set_reclaim([c = cache.get()] { return c->reclaim(); });
  return cache;
}

PrefixCache::~PrefixCache() {
  pool_->set_reclaim({});
  for (auto& [id, entry] : entries_)
    if (entry.page >= 0) pool_->forget(entry.page);
}

PrefixCacheCounters PrefixCache::counters() const {
  PrefixCacheCounters c = counters_;
  c.file_blocks = static_cast<uint64_t>(file_end_) - free_file_.size();
  for (const auto& [id, entry] : entries_) c.blocks += entry.page >= 0;
  return c;
}

// ---- the tree -----------------------------------------------------------------------------------

PrefixCache::Entry* PrefixCache::find(uint64_t id) {
  const auto at = entries_.find(id);
  return at == entries_.end() ? nullptr : &at->second;
}

// The one of exactly these tokens.
PrefixCache::Entry* PrefixCache::child(uint64_t parent, std::span<const int32_t> tokens) {
  const auto at = children_.find(parent);
  if (at == children_.end()) return nullptr;
  for (const uint64_t id : at->second) {
    Entry& entry = entries_.at(id);
    if (std::equal(entry.tokens.begin(), entry.tokens.end(), tokens.begin(), tokens.end()))
      return &entry;
  }
  return nullptr;
}

PrefixCache::Entry& PrefixCache::add(uint64_t parent, std::span<const int32_t> tokens,
                                     int32_t page) {
  const uint64_t id = next_id_++;
  Entry& entry = entries_[id];
  entry.id = id;
  entry.parent = parent;
  entry.tokens.assign(tokens.begin(), tokens.end());
  entry.page = page;
  entry.age = ages_.insert(ages_.end(), id);
  pool_->keep(page);
  children_[parent].push_back(id);
  return entry;
}

// Blocks beside it that hold less of the same.
void PrefixCache::drop_beginnings(const Entry& whole) {
  const std::vector<uint64_t> beside = children_[whole.parent];
  for (const uint64_t id : beside) {
    Entry& entry = entries_.at(id);
    if (entry.tokens.size() >= whole.tokens.size() || entry.pins > 0) continue;
    if (common_prefix(entry.tokens, whole.tokens) == static_cast<int64_t>(entry.tokens.size()))
      erase(entry);
  }
}

void PrefixCache::erase(Entry& entry) {
  if (entry.page >= 0) pool_->forget(entry.page);
  if (entry.file >= 0) free_file_.push_back(entry.file);
  std::vector<uint64_t>& siblings = children_[entry.parent];
  std::erase(siblings, entry.id);
  if (siblings.empty()) children_.erase(entry.parent);
  ages_.erase(entry.age);
  entries_.erase(entry.id);
}

// From the leaf up, so that leaves go before what they grow from.
void PrefixCache::touch(uint64_t leaf) {
  for (Entry* entry = find(leaf); entry; entry = find(entry->parent))
    ages_.splice(ages_.end(), ages_, entry->age);
}

void PrefixCache::pin(const std::vector<uint64_t>& entries, int by) {
  for (const uint64_t id : entries)
    if (Entry* entry = find(id)) entry->pins += by;
}

void PrefixCache::publish(const SequenceState& sequence, std::span<const int32_t> tokens,
                          Cursor& cursor, bool ending) {
  tokens = tokens.first(static_cast<size_t>(sequence.length()));
  if (cursor.entry != 0 && !find(cursor.entry)) cursor = {.kind = cursor.kind};
  uint64_t parent = cursor.entry != 0 ? cursor.entry : root(cursor.kind);
  const int64_t end = sequence.length() / kPageTokens;
  for (; cursor.blocks < end; ++cursor.blocks) {
    const auto part = block_of(tokens, cursor.blocks);
    const int32_t page = sequence.shared_page(cursor.blocks);
    Entry* entry = child(parent, part);
    if (!entry) {
      entry = &add(parent, part, page);
      drop_beginnings(*entry);
    } else if (entry->page < 0) {
      pool_->keep(entry->page = page);
    }
    cursor.entry = parent = entry->id;
  }
  if (!ending) return;
  uint64_t leaf = cursor.entry;
  if (sequence.length() % kPageTokens > 0) {
    const auto part = block_of(tokens, end);
    Entry* known = nullptr;
    for (const uint64_t id : children_[parent]) {
      Entry& entry = entries_.at(id);
      if (common_prefix(entry.tokens, part) == static_cast<int64_t>(part.size())) known = &entry;
    }
    if (!known) {
      known = &add(parent, part, sequence.shared_page(end));
      drop_beginnings(*known);
    }
    leaf = known->id;
  }
  touch(leaf);
}

PrefixCache::Path PrefixCache::path(std::span<const int32_t> tokens, int64_t most, uint64_t kind) {
  Path path;
  tokens = tokens.first(static_cast<size_t>(most));
  uint64_t parent = root(kind);
  for (int64_t block = 0; block * kPageTokens < most; ++block) {
    const auto part = block_of(tokens, block);
    if (part.size() == kPageTokens)
      if (const Entry* entry = child(parent, part)) {
        path.entries.push_back(parent = entry->id);
        continue;
      }
    const Entry* best = nullptr;
    const auto at = children_.find(parent);
    for (const uint64_t id : at == children_.end() ? std::vector<uint64_t>() : at->second) {
      const Entry& entry = entries_.at(id);
      const int64_t alike = common_prefix(entry.tokens, part);
      if (alike > path.tail) path.tail = alike, best = &entry;
    }
    if (best) path.entries.push_back(best->id);
    break;
  }
  return path;
}

// ---- to and from sequences ----------------------------------------------------------------------

// Code::kOutOfBudget, and nothing changed, when there are too few pages; Code::kIo for what cannot
// be read, which is forgotten.
Status PrefixCache::take(SequenceState& sequence, const Path& path) {
  const size_t n = path.entries.size(), shared = path.tail > 0 ? n - 1 : n;
  int64_t needed = 0;
  for (size_t i = 0; i < n; ++i) {
    const Entry& entry = entries_.at(path.entries[i]);
    // What is taken and what the cache alone has now both lessen what there is to have.
    needed += i >= shared || entry.page < 0;
    needed += entry.page >= 0 && pool_->held_by_cache_alone(entry.page);
  }
  if (needed > pool_->pages_to_have())
    return error(Code::kOutOfBudget, "no free page of sequence state is left");
  pin(path.entries, 1);
  std::vector<int32_t> pages(n, -1);
  for (size_t i = 0; i < n; ++i)
    if (const Entry& entry = entries_.at(path.entries[i]); entry.page >= 0)
      pool_->hold(pages[i] = entry.page);
  std::vector<std::pair<const Entry*, int32_t>> wanted;
  Status status;
  for (size_t i = 0; i < n && status; ++i) {
    Entry& entry = entries_.at(path.entries[i]);
    if (i < shared && pages[i] >= 0) continue;
    const auto page = pool_->take_page();
    if (!page) {
      status = error(Code::kOutOfBudget, "no free page of sequence state is left");
      break;
    }
    if (pages[i] >= 0) {
      pool_->copy_page(pages[i], *page);
      pool_->let_go(pages[i]);
    } else {
      wanted.emplace_back(&entry, *page);
    }
    pages[i] = *page;
  }
  if (status) status = read(wanted);
  pin(path.entries, -1);
  if (!status) {
    for (const int32_t page : pages)
      if (page >= 0) pool_->let_go(page);
    return status;
  }
  for (size_t i = 0; i < shared; ++i)
    if (Entry& entry = entries_.at(path.entries[i]); entry.page < 0)
      pool_->keep(entry.page = pages[i]);
  touch(path.entries.back());
  sequence.adopt(std::move(pages), path.tokens());
  return {};
}

int64_t PrefixCache::attach(SequenceState& sequence, std::span<const int32_t> tokens, int64_t most,
                            Cursor& cursor) {
  Path found = path(tokens, most, cursor.kind);
  while (!found.entries.empty()) {
    const Status status = take(sequence, found);
    if (status) break;
    if (status.error().code == Code::kIo) {
      // What lies in the file from the first such block on is of no use.
      size_t i = 0;
      while (i < found.entries.size() && entries_.at(found.entries[i]).page >= 0) ++i;
      if (i == found.entries.size()) return 0;
      if (Entry& lost = entries_.at(found.entries[i]); lost.pins == 0) erase(lost);
      found.entries.resize(i);
    } else {
      found.entries.pop_back();
    }
    found.tail = 0;
  }
  if (found.entries.empty()) return 0;
  if (found.tail > 0) found.entries.pop_back();
  cursor = {.entry = found.entries.empty() ? 0 : found.entries.back(),
            .blocks = static_cast<int64_t>(found.entries.size()),
            .kind = cursor.kind};
  return sequence.length();
}

std::optional<PrefixCache::Moved> PrefixCache::move_out(const SequenceState& sequence,
                                                        std::span<const int32_t> tokens,
                                                        Cursor& cursor) {
  if (!file_) return std::nullopt;
  publish(sequence, tokens, cursor, true);
  const Path all = path(tokens, sequence.length(), cursor.kind);
  if (all.tokens() != sequence.length()) return std::nullopt;
  Moved moved{all.entries, sequence.length()};
  pin(moved.entries, 1);
  for (const uint64_t id : moved.entries)
    if (Entry& entry = entries_.at(id); entry.file < 0 && !write(entry)) {
      pin(moved.entries, -1);
      return std::nullopt;
    }
  return moved;
}

Result<bool> PrefixCache::move_in(SequenceState& sequence, const Moved& moved, Cursor& cursor) {
  Path path{moved.entries, moved.tokens % kPageTokens};
  if (const Status status = take(sequence, path); !status) {
    if (status.error().code == Code::kOutOfBudget) return false;
    return status.error();
  }
  if (path.tail > 0) path.entries.pop_back();
  cursor = {.entry = path.entries.empty() ? 0 : path.entries.back(),
            .blocks = static_cast<int64_t>(path.entries.size()),
            .kind = cursor.kind};
  return true;
}

void PrefixCache::let_go(const Moved& moved) { pin(moved.entries, -1); }

// ---- memory and file ----------------------------------------------------------------------------

bool PrefixCache::reclaim() {
  for (const uint64_t id : ages_) {
    Entry& entry = entries_.at(id);
    if (entry.page < 0 || !pool_->held_by_cache_alone(entry.page)) continue;
    if (file_ && (entry.file >= 0 || write(entry))) {
      pool_->forget(std::exchange(entry.page, -1));
    } else if (entry.pins == 0) {
      erase(entry);
    } else {
      continue;
    }
    return true;
  }
  return false;
}

// Free, new, or of the entry that was used longest ago and nobody waits for; -1: there is none.
int64_t PrefixCache::file_block() {
  if (free_file_.empty() && file_end_ < file_limit_) return file_end_++;
  if (free_file_.empty())
    for (const uint64_t id : ages_) {
      Entry& entry = entries_.at(id);
      if (entry.file < 0 || entry.pins > 0) continue;
      if (entry.page < 0) {
        erase(entry);
      } else {
        free_file_.push_back(std::exchange(entry.file, -1));
      }
      break;
    }
  if (free_file_.empty()) return -1;
  const int64_t block = free_file_.back();
  free_file_.pop_back();
  return block;
}

Status PrefixCache::write(Entry& entry) {
  ++entry.pins;  // not for itself
  const int64_t block = file_block();
  --entry.pins;
  if (block < 0) return error(Code::kIo, "the file of the prefix cache is full");
  std::vector<std::span<const uint8_t>> pieces;
  for (size_t slot = 0; slot < pool_->slots().size(); ++slot)
    pieces.push_back(pool_->page(slot, entry.page));
  const double begin = now_seconds();
  if (Status status = file_->write(static_cast<uint64_t>(block) * block_bytes_, pieces); !status) {
    free_file_.push_back(block);
    return status;
  }
  counters_.file_seconds += now_seconds() - begin;
  counters_.written_bytes += block_bytes_;
  entry.file = block;
  return {};
}

// All at once, and waits.
Status PrefixCache::read(const std::vector<std::pair<const Entry*, int32_t>>& wanted) {
  if (wanted.empty()) return {};
  const double begin = now_seconds();
  std::mutex mutex;
  std::condition_variable ended;
  size_t left = wanted.size() * pool_->slots().size();
  Status status;
  std::vector<DiskRead> reads;
  for (const auto& [entry, page] : wanted) {
    uint64_t offset = static_cast<uint64_t>(entry->file) * block_bytes_;
    for (size_t slot = 0; slot < pool_->slots().size(); ++slot) {
      const auto to = pool_->page(slot, page);
      reads.push_back({.file = 0,
                       .offset = offset,
                       .bytes = to.size(),
                       .buffer = to.data(),
                       .done = [&](Status one) {
                         const std::lock_guard lock(mutex);
                         if (!one && status) status = std::move(one);
                         if (--left == 0) ended.notify_one();
                       }});
      offset += to.size();
    }
  }
  disk_->submit(std::move(reads));
  std::unique_lock lock(mutex);
  ended.wait(lock, [&] { return left == 0; });
  counters_.file_seconds += now_seconds() - begin;
  counters_.read_bytes += wanted.size() * block_bytes_;
  return status;
}

}  // namespace venturi
