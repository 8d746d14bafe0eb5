#include "kernels/cuda/work_splitter.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <queue>

#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace comet::sm80 {
namespace {

constexpr double kSlack = 1e-9;  // Of comparisons between sums of costs.

double BlocksCost(const TileWork& work, const WorkCosts& costs, int begin, int end) {
  const int num_int8 = std::clamp(work.num_int8_blocks, begin, end) - begin;
  return num_int8 * costs.int8_block + (end - begin - num_int8) * costs.int4_block;
}

double TileCost(const TileWork& work, const WorkCosts& costs) {
  return BlocksCost(work, costs, 0, work.num_blocks()) + costs.store;
}

// The furthest block that a CTA reaches from `begin` of a tile within `budget`; a multiple of the
// granularity.
int BlockWithin(const TileWork& work, const WorkCosts& costs, int begin, double budget) {
  const int num_int8_left = std::max(work.num_int8_blocks - begin, 0);
  int num_blocks = static_cast<int>(budget / costs.int8_block + kSlack);
  if (num_blocks >= num_int8_left) {
    budget -= num_int8_left * costs.int8_block;
    num_blocks = num_int8_left + static_cast<int>(budget / costs.int4_block + kSlack);
  }
  const int end = std::min(begin + num_blocks, work.num_blocks());
  return std::max(begin, end / costs.granularity * costs.granularity);
}

// Cuts `num_tiles` tiles so that no CTA needs more than `limit`; nothing if it cannot be. `split`'s
// boundaries are then where CTAs begin.
bool FillWithin(const TileWork& work, const WorkCosts& costs, int num_tiles, double limit,
                WorkSplit& split) {
  int tile = 0;
  int block = 0;
  int num_pieces = 0;  // Of the tile, before this CTA's.
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    split.boundary[cta] = {static_cast<uint16_t>(tile), static_cast<uint16_t>(block)};
    double budget = limit - costs.fill;
    while (tile < num_tiles) {
      const double finish = BlocksCost(work, costs, block, work.num_blocks()) + costs.store +
                            num_pieces * costs.fixup_read;
      if (finish <= budget + kSlack) {
        budget -= finish;
        ++tile;
        block = 0;
        num_pieces = 0;
        continue;
      }
      const int end = std::min(BlockWithin(work, costs, block, budget - costs.fixup_write),
                               work.num_blocks() - 1);
      if (end > block) {
        block = end;
        ++num_pieces;
      }
      break;
    }
  }
  split.boundary[split.num_ctas] = {static_cast<uint16_t>(tile), static_cast<uint16_t>(block)};
  return tile == num_tiles;
}

// `num_whole` whole tiles, the rest cut with the least makespan that bisection finds.
WorkSplit SplitRest(const TileWork& work, const WorkCosts& costs, int num_ctas, int num_whole) {
  WorkSplit best{.num_ctas = num_ctas, .num_whole_tiles = num_whole};
  const int num_tiles = work.num_tiles - num_whole;
  double low = num_tiles * TileCost(work, costs) / num_ctas + costs.fill;
  double high = low + TileCost(work, costs) + costs.fixup_write +
                num_ctas * costs.fixup_read;  // A tile in as many pieces as there can be.
  COMET_CHECK(FillWithin(work, costs, num_tiles, high, best));
  while (high - low > 1e-3 * low) {
    WorkSplit trial{.num_ctas = num_ctas, .num_whole_tiles = num_whole};
    const double middle = (low + high) / 2;
    if (FillWithin(work, costs, num_tiles, middle, trial)) {
      best = trial;
      high = middle;
    } else {
      low = middle;
    }
  }
  return best;
}

// Calls `visit` with the time of each CTA, charges included.
template <typename Visit>
void ForEachLoad(const WorkSplit& split, const TileWork& work, const WorkCosts& costs,
                 const Visit& visit) {
  int num_pieces = 0;  // Of the split tile that the CTAs before left unfinished.
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    const int num_whole =
        cta < split.num_whole_tiles ? CeilDiv(split.num_whole_tiles - cta, split.num_ctas) : 0;
    double load = num_whole * TileCost(work, costs);
    const SplitPoint first = split.boundary[cta];
    const SplitPoint last = split.boundary[cta + 1];
    for (int tile = first.tile; tile <= last.tile; ++tile) {
      const int begin = tile == first.tile ? first.block : 0;
      const int end = tile == last.tile ? last.block : work.num_blocks();
      if (begin >= end) continue;
      load += BlocksCost(work, costs, begin, end);
      if (end == work.num_blocks()) {
        load += costs.store + num_pieces * costs.fixup_read;
        num_pieces = 0;
      } else {
        load += costs.fixup_write;
        ++num_pieces;
      }
    }
    visit(load > 0 ? costs.fill + load : 0.0);
  }
}

}  // namespace

std::vector<WorkPiece> PiecesOf(const WorkSplit& split, const TileWork& work, int cta_idx) {
  std::vector<WorkPiece> pieces;
  for (int tile = cta_idx; tile < split.num_whole_tiles; tile += split.num_ctas) {
    pieces.push_back({.tile_idx = tile, .begin = 0, .end = work.num_blocks()});
  }
  const SplitPoint first = split.boundary[cta_idx];
  const SplitPoint last = split.boundary[cta_idx + 1];
  for (int tile = first.tile; tile <= last.tile; ++tile) {
    const int begin = tile == first.tile ? first.block : 0;
    const int end = tile == last.tile ? last.block : work.num_blocks();
    if (begin < end) pieces.push_back({split.num_whole_tiles + tile, begin, end});
  }
  return pieces;
}

WorkSplit SplitNaively(const TileWork& work, int num_ctas) {
  return {.num_ctas = num_ctas, .num_whole_tiles = work.num_tiles};
}

WorkSplit Decompose(const TileWork& work, const WorkCosts& costs, int num_ctas) {
  COMET_CHECK(num_ctas > 0 && num_ctas <= kCtasMax);
  WorkSplit best = SplitNaively(work, num_ctas);
  double best_makespan = MakespanOf(best, work, costs);
  const int num_waves = work.num_tiles / num_ctas;
  for (const int whole_waves : {num_waves, num_waves - 1}) {
    if (whole_waves < 0 || whole_waves * num_ctas == work.num_tiles) continue;
    const WorkSplit split = SplitRest(work, costs, num_ctas, whole_waves * num_ctas);
    const double makespan = MakespanOf(split, work, costs);
    if (makespan < best_makespan) {
      best = split;
      best_makespan = makespan;
    }
  }
  return best;
}

double MakespanOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs) {
  double makespan = 0;
  ForEachLoad(split, work, costs, [&](double load) { makespan = std::max(makespan, load); });
  return makespan;
}

double RemappedMakespan(const TileWork& work, const WorkCosts& costs, int num_ctas) {
  struct Unit {
    double cost;
    int count;
  };
  // The INT4 region is the last of a tile, so that its CTA stores it.
  Unit units[2] = {
      {work.num_int8_blocks * costs.int8_block + costs.fixup_write, work.num_tiles},
      {work.num_int4_blocks * costs.int4_block + costs.fixup_read + costs.store, work.num_tiles}};
  if (work.num_int8_blocks == 0 || work.num_int4_blocks == 0) {
    units[0] = {TileCost(work, costs), work.num_tiles};
    units[1].count = 0;
  }
  if (units[0].cost < units[1].cost) std::swap(units[0], units[1]);
  std::priority_queue<double, std::vector<double>, std::greater<>> loads;
  for (int i = 0; i < num_ctas; ++i) loads.push(costs.fill);
  double makespan = 0;
  for (const Unit& unit : units) {
    for (int i = 0; i < unit.count; ++i) {
      const double load = loads.top() + unit.cost;
      loads.pop();
      loads.push(load);
      makespan = std::max(makespan, load);
    }
  }
  return makespan;
}

double BoundOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs, int num_ctas) {
  double sum = 0;
  ForEachLoad(split, work, costs, [&](double load) { sum += load; });
  const double largest_block = std::max(work.num_int8_blocks > 0 ? costs.int8_block : 0.0,
                                        work.num_int4_blocks > 0 ? costs.int4_block : 0.0);
  const int num_units = work.num_tiles * CeilDiv(work.num_blocks(), costs.granularity);
  const double most_blocks = CeilDiv(num_units, num_ctas) * costs.granularity *
                             std::min(costs.int8_block, costs.int4_block);
  return std::max({sum / num_ctas, costs.fill + costs.granularity * largest_block,
                   costs.fill + most_blocks + std::min(costs.store, costs.fixup_write)});
}

}  // namespace comet::sm80
