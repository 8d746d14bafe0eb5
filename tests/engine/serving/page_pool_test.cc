#include "engine/kv_cache/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "kernels/base/random.h"

namespace comet {
namespace {

TEST(PagePool, GivesEachPageToOneHolder) {
  PagePool pages({.num_pages = 8, .page_tokens = 16});
  PageTable first;
  PageTable second;

  ASSERT_TRUE(pages.TryGrow(first, 65));   // Five pages.
  ASSERT_TRUE(pages.TryGrow(second, 48));  // Three.

  std::set<int> distinct(first.page_ids().begin(), first.page_ids().end());
  distinct.insert(second.page_ids().begin(), second.page_ids().end());
  EXPECT_EQ(distinct.size(), 8u);
  EXPECT_EQ(pages.num_free(), 0);
}

TEST(PagePool, GrowingKeepsThePagesThatAreThere) {
  PagePool pages({.num_pages = 8, .page_tokens = 16});
  PageTable table;
  ASSERT_TRUE(pages.TryGrow(table, 20));
  const std::vector<int> before(table.page_ids().begin(), table.page_ids().end());

  ASSERT_TRUE(pages.TryGrow(table, 70));

  EXPECT_EQ(table.num_pages(), 5);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), table.page_ids().begin()));
}

TEST(PagePool, GrowingWithinTheLastPageTakesNone) {
  PagePool pages({.num_pages = 2, .page_tokens = 16});
  PageTable table;
  ASSERT_TRUE(pages.TryGrow(table, 1));

  ASSERT_TRUE(pages.TryGrow(table, 16));

  EXPECT_EQ(pages.num_used(), 1);
}

TEST(PagePool, TakesNothingWhenItCannotGiveAll) {
  PagePool pages({.num_pages = 4, .page_tokens = 16});
  PageTable table;
  ASSERT_TRUE(pages.TryGrow(table, 32));

  EXPECT_FALSE(pages.TryGrow(table, 65));

  EXPECT_EQ(table.num_pages(), 2);
  EXPECT_EQ(pages.num_free(), 2);
}

TEST(PagePool, StaysWholeUnderRandomUse) {
  PagePool pages({.num_pages = 37, .page_tokens = 16});
  Random random(3);
  std::vector<PageTable> tables(6);

  for (int i = 0; i < 20000; ++i) {
    PageTable& table = tables[static_cast<size_t>(random.NextInt(6))];
    if (random.NextInt(3) == 0) {
      pages.ReleaseAll(table);
    } else {
      (void)pages.TryGrow(table, random.NextInt(300));
    }
    int num_held = 0;
    for (const PageTable& held : tables) num_held += held.num_pages();
    ASSERT_EQ(num_held, pages.num_used());
    ASSERT_TRUE(pages.CheckIntegrity().ok()) << pages.CheckIntegrity();
  }
}

}  // namespace
}  // namespace comet
