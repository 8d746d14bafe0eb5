#include "engine/kv_cache/page_pool.h"

#include <cstddef>

#include "kernels/base/str_cat.h"

namespace comet {

PagePool::PagePool(const PagePoolOptions& options)
    : page_tokens_(options.page_tokens), is_free_(static_cast<size_t>(options.num_pages), true) {
  COMET_CHECK(options.num_pages >= 0 && options.page_tokens >= 1);
  free_ids_.reserve(is_free_.size());
  // Descending, so that page 0 is the first to be given out.
  for (int page_id = options.num_pages - 1; page_id >= 0; --page_id) free_ids_.push_back(page_id);
}

bool PagePool::TryGrow(PageTable& table, int num_tokens) {
  const int num_missing = PagesFor(num_tokens) - table.num_pages();
  if (num_missing > num_free()) return false;
  for (int i = 0; i < num_missing; ++i) {
    const int page_id = free_ids_.back();
    free_ids_.pop_back();
    COMET_CHECK(is_free_[static_cast<size_t>(page_id)]);
    is_free_[static_cast<size_t>(page_id)] = false;
    table.page_ids_.push_back(page_id);
  }
  return true;
}

void PagePool::ReleaseAll(PageTable& table) {
  for (const int page_id : table.page_ids_) {
    COMET_CHECK(!is_free_[static_cast<size_t>(page_id)]);
    is_free_[static_cast<size_t>(page_id)] = true;
    free_ids_.push_back(page_id);
  }
  table.page_ids_.clear();
}

Status PagePool::CheckIntegrity() const {
  std::vector<bool> is_listed(is_free_.size(), false);
  for (const int page_id : free_ids_) {
    if (page_id < 0 || page_id >= num_pages()) {
      return Internal(
          StrCat("page_pool: a free page's id is ", page_id, ", expected 0 to ", num_pages() - 1));
    }
    if (is_listed[static_cast<size_t>(page_id)]) {
      return Internal(StrCat("page_pool: page ", page_id, " is in the free list twice"));
    }
    is_listed[static_cast<size_t>(page_id)] = true;
  }
  for (size_t page_id = 0; page_id < is_free_.size(); ++page_id) {
    if (is_listed[page_id] != is_free_[page_id]) {
      return Internal(StrCat("page_pool: page ", page_id, " is ", is_free_[page_id] ? "" : "not ",
                             "free, expected as the free list says"));
    }
  }
  return Status::Ok();
}

}  // namespace comet
