#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/base/status.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet {

struct PagePoolOptions {
  int num_pages = 0;
  int page_tokens = kPageTokens;  // What the ops compute with; less in tests.
};

// The pages one sequence holds: page i holds positions [i * page_tokens, (i + 1) * page_tokens).
// Only a PagePool changes it. Confined to the step thread.
class PageTable {
 public:
  PageTable() = default;
  // A copy would hold pages that the pool has not counted.
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;
  PageTable(PageTable&&) = default;
  PageTable& operator=(PageTable&&) = default;

  std::span<const int> page_ids() const { return page_ids_; }
  int num_pages() const { return static_cast<int>(page_ids_.size()); }

 private:
  friend class PagePool;
  std::vector<int> page_ids_;
};

// The KV cache's pages as ids 0..num_pages - 1: which are free, never what is in them. A page is
// free or in one table. Every operation is O(1) a page. Confined to the step thread.
class PagePool {
 public:
  explicit PagePool(const PagePoolOptions& options);

  int num_pages() const { return static_cast<int>(is_free_.size()); }
  int num_free() const { return static_cast<int>(free_ids_.size()); }
  int num_used() const { return num_pages() - num_free(); }
  // Pages that hold this many tokens.
  int PagesFor(int num_tokens) const { return CeilDiv(num_tokens, page_tokens_); }

  // Gives `table` the pages it lacks to hold `num_tokens`: all of them, or none and false.
  [[nodiscard]] bool TryGrow(PageTable& table, int num_tokens);
  // Gives up every page of `table`.
  void ReleaseAll(PageTable& table);

  // O(num_pages): the free list names every free page once and no other. kInternal names the first
  // page of which that is untrue.
  Status CheckIntegrity() const;

 private:
  int page_tokens_;
  std::vector<bool> is_free_;  // By page id.
  std::vector<int> free_ids_;  // A stack, so that a page just freed is used next.
};

}  // namespace comet
