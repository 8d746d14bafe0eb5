#include "engine/kv_cache/page_pool.h"

#include <cstddef>

#include "kernels/base/str_cat.h"

namespace comet {

PagePool::PagePool(const PagePoolOptions& options)
    : page_tokens_(options.page_tokens),
      num_references_(static_cast<size_t>(options.num_pages), 0) {
  COMET_CHECK(options.num_pages >= 0 && options.page_tokens >= 1);
  free_ids_.reserve(num_references_.size());
  // Descending, so that page 0 is the first to be given out.
  for (int page_id = options.num_pages - 1; page_id >= 0; --page_id) free_ids_.push_back(page_id);
}

bool PagePool::TryGrow(PageTable& table, int num_tokens) {
  const int num_missing = PagesFor(num_tokens) - table.num_pages();
  if (num_missing > num_free()) return false;
  for (int i = 0; i < num_missing; ++i) table.page_ids_.push_back(Allocate());
  return true;
}

void PagePool::ReleaseAll(PageTable& table) {
  for (const int page_id : table.page_ids_) Release(page_id);
  table.page_ids_.clear();
}

int PagePool::Allocate() {
  if (free_ids_.empty()) return -1;
  const int page_id = free_ids_.back();
  free_ids_.pop_back();
  COMET_CHECK(num_references(page_id) == 0);
  num_references_[static_cast<size_t>(page_id)] = 1;
  return page_id;
}

void PagePool::Retain(int page_id) {
  COMET_CHECK(page_id >= 0 && page_id < num_pages() && num_references(page_id) > 0);
  ++num_references_[static_cast<size_t>(page_id)];
}

void PagePool::Release(int page_id) {
  COMET_CHECK(page_id >= 0 && page_id < num_pages() && num_references(page_id) > 0);
  if (--num_references_[static_cast<size_t>(page_id)] == 0) free_ids_.push_back(page_id);
}

Status PagePool::CheckIntegrity() const {
  std::vector<bool> is_free(num_references_.size(), false);
  for (const int page_id : free_ids_) {
    if (page_id < 0 || page_id >= num_pages()) {
      return Internal(
          StrCat("page_pool: a free page's id is ", page_id, ", expected 0 to ", num_pages() - 1));
    }
    if (is_free[static_cast<size_t>(page_id)]) {
      return Internal(StrCat("page_pool: page ", page_id, " is in the free list twice"));
    }
    is_free[static_cast<size_t>(page_id)] = true;
  }
  for (int page_id = 0; page_id < num_pages(); ++page_id) {
    if (is_free[static_cast<size_t>(page_id)] != (num_references(page_id) == 0)) {
      return Internal(StrCat("page_pool: page ", page_id, " has ", num_references(page_id),
                             " references, expected ",
                             is_free[static_cast<size_t>(page_id)] ? "0: it is free" : "some"));
    }
  }
  return Status::Ok();
}

}  // namespace comet
