#include "kernels/cuda/work_splitter.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace comet::sm80 {
namespace {

constexpr double kSlack = 1e-9;  // Of comparisons between sums of costs, of the sum.

double BlocksCost(const TileWork& work, const WorkCosts& costs, int begin, int end) {
  const int num_int8 = std::clamp(work.num_int8_blocks, begin, end) - begin;
  return num_int8 * costs.int8_block + (end - begin - num_int8) * costs.int4_block;
}

double TileCost(const TileWork& work, const WorkCosts& costs) {
  return BlocksCost(work, costs, 0, work.num_blocks()) + costs.store + costs.pass;
}

// What a CTA has to do.
struct Load {
  int num_blocks = 0;
  double blocks = 0;       // Their clocks while weights are there.
  double charges = 0;      // Sums and stores of its pieces.
  double last_charge = 0;  // Of these, the last piece's.

  // Pieces in their order; `charge` is what the piece's sums cost.
  void Add(const TileWork& work, const WorkCosts& costs, int begin, int end, double charge) {
    num_blocks += end - begin;
    blocks += BlocksCost(work, costs, begin, end);
    if (costs.hides_sums) charges += costs.pass - last_charge;
    charges += charge;
    last_charge = charge;
  }
  // `memory`: clocks of its blocks at the rate at which weights come.
  double Clocks(double fill, double memory) const {
    return num_blocks == 0 ? 0.0 : fill + std::max(memory, blocks) + charges;
  }
};

// Times of a CTA where `num_ctas` share the memory all the time.
WorkCosts Shared(const WorkCosts& costs, int num_ctas) {
  WorkCosts shared = costs;
  shared.int4_block = std::max(costs.int4_block, num_ctas * costs.block_memory);
  shared.int8_block = std::max(costs.int8_block, num_ctas * costs.block_memory);
  shared.block_memory = 0;
  return shared;
}

// Cuts `num_tiles` tiles so that no CTA, which has `num_whole` others after them, needs more than
// `limit` while all share the memory; nothing if it cannot be. `split`'s boundaries are then where
// CTAs begin.
bool FillWithin(const TileWork& work, const WorkCosts& costs, int num_tiles, int num_whole,
                double limit, WorkSplit& split) {
  const double block_memory = split.num_ctas * costs.block_memory;
  // Clocks that are left of a CTA's after `load`, a piece and the whole tiles behind it.
  const auto left = [&](Load load, int begin, int end, double charge) {
    load.Add(work, costs, begin, end, charge);
    for (int i = 0; i < num_whole; ++i) load.Add(work, costs, 0, work.num_blocks(), costs.store);
    return limit - load.Clocks(costs.fill, load.num_blocks * block_memory);
  };
  int tile = 0;
  int block = 0;
  int num_before = 0;  // Of the tile's pieces, those of the CTAs before.
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    split.boundary[cta] = {static_cast<uint16_t>(tile), static_cast<uint16_t>(block)};
    Load load;
    while (tile < num_tiles) {
      const double finish = costs.store + costs.Read(num_before);
      if (left(load, block, work.num_blocks(), finish) >= -kSlack * limit) {
        load.Add(work, costs, block, work.num_blocks(), finish);
        ++tile;
        block = 0;
        num_before = 0;
        continue;
      }
      int end = block;  // The furthest that is within the limit, by bisection.
      for (int beyond = work.num_blocks(); beyond - end > 1;) {
        const int middle = (end + beyond) / 2;
        const bool is_within = left(load, block, middle, costs.fixup_write) >= -kSlack * limit;
        (is_within ? end : beyond) = middle;
      }
      end = end / costs.granularity * costs.granularity;
      if (end > block) {
        block = end;
        ++num_before;
      }
      break;
    }
  }
  split.boundary[split.num_ctas] = {static_cast<uint16_t>(tile), static_cast<uint16_t>(block)};
  return tile == num_tiles;
}

// `num_tiles` tiles cut among `num_ctas` CTAs, each with `num_whole` others, with the least
// makespan that bisection finds.
WorkSplit Cut(const TileWork& work, const WorkCosts& costs, int num_tiles, int num_ctas,
              int num_whole) {
  WorkSplit best{.num_ctas = num_ctas, .ends_last = !costs.hides_sums};
  const WorkCosts shared = Shared(costs, num_ctas);
  double low = costs.fill;
  double high = costs.fill + (CeilDiv(num_tiles, num_ctas) + num_whole) * TileCost(work, shared);
  high += costs.fixup_write + costs.Read(num_ctas) + costs.pass;
  COMET_CHECK(FillWithin(work, costs, num_tiles, num_whole, high, best));
  while (high - low > 1e-3 * low) {
    WorkSplit trial{.num_ctas = num_ctas, .ends_last = best.ends_last};
    const double middle = (low + high) / 2;
    if (FillWithin(work, costs, num_tiles, num_whole, middle, trial)) {
      best = trial;
      high = middle;
    } else {
      low = middle;
    }
  }
  return best;
}

// `whole_waves` tiles a CTA whole, the rest as one sequence cut anywhere.
WorkSplit SplitRest(const TileWork& work, const WorkCosts& costs, int num_ctas, int whole_waves) {
  const int num_whole = whole_waves * num_ctas;
  WorkSplit split = Cut(work, costs, work.num_tiles - num_whole, num_ctas, whole_waves);
  split.num_whole_tiles = num_whole;
  return split;
}

// The same, but each tile of the rest to as many CTAs of its own: none has pieces of two.
WorkSplit SplitRestAlike(const TileWork& work, const WorkCosts& costs, int num_ctas,
                         int whole_waves) {
  WorkSplit split{.num_ctas = num_ctas,
                  .num_whole_tiles = whole_waves * num_ctas,
                  .ends_last = !costs.hides_sums};
  const int num_tiles = work.num_tiles - split.num_whole_tiles;
  const int ctas_per_tile = num_ctas / num_tiles;
  WorkCosts of_tile = costs;  // CTAs of the other tiles share the memory.
  of_tile.block_memory *= static_cast<double>(num_ctas) / ctas_per_tile;
  const WorkSplit tile = Cut(work, of_tile, /*num_tiles=*/1, ctas_per_tile, whole_waves);
  for (int cta = 0; cta <= num_ctas; ++cta) {
    const int tile_idx = std::min(cta / ctas_per_tile, num_tiles);
    const SplitPoint begin =
        tile_idx < num_tiles ? tile.boundary[cta % ctas_per_tile] : SplitPoint();
    split.boundary[cta] = {static_cast<uint16_t>(tile_idx + begin.tile), begin.block};
  }
  return split;
}

std::vector<Load> LoadsOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs) {
  std::vector<Load> loads(static_cast<size_t>(split.num_ctas));
  int num_before = 0;  // Pieces of the split tile that the CTAs before left unfinished.
  for (int cta = 0; cta < split.num_ctas; ++cta) {
    Load& load = loads[static_cast<size_t>(cta)];
    int num_after = num_before;
    for (const WorkPiece& piece : PiecesOf(split, work, cta)) {
      const int num_others = piece.begin > 0 ? num_before : 0;
      const bool ends_tile = piece.end == work.num_blocks();
      load.Add(work, costs, piece.begin, piece.end,
               ends_tile ? costs.store + costs.Read(num_others) : costs.fixup_write);
      if (!ends_tile) num_after = num_others + 1;
    }
    num_before = num_after;
  }
  return loads;
}

double MakespanOf(const std::vector<Load>& loads, const WorkCosts& costs) {
  // CTAs that take part in each block, as runs of blocks.
  struct Run {
    int num_blocks;
    double memory;
    double part;
  };
  const int num_sms = CeilDiv(static_cast<int>(loads.size()), costs.ctas_per_sm);
  std::vector<int> ends;
  for (const Load& load : loads) {
    if (load.num_blocks > 0) ends.push_back(load.num_blocks);
  }
  std::sort(ends.begin(), ends.end());
  std::vector<Run> runs;
  int begin = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    if (ends[i] == begin) continue;
    const int num_running = static_cast<int>(ends.size() - i);
    runs.push_back({ends[i] - begin, num_running * costs.block_memory,
                    costs.block_part[static_cast<size_t>(CeilDiv(num_running, num_sms))]});
    begin = ends[i];
  }
  double makespan = 0;
  for (const Load& load : loads) {
    if (load.num_blocks == 0) continue;
    const double block = load.blocks / load.num_blocks;
    double clocks = costs.fill + load.charges;
    int num_blocks = load.num_blocks;
    for (const Run& run : runs) {
      if (num_blocks == 0) break;
      clocks += run.num_blocks * std::max(run.part * block, run.memory);
      num_blocks -= run.num_blocks;
    }
    makespan = std::max(makespan, clocks);
  }
  return makespan;
}

}  // namespace

std::vector<WorkPiece> PiecesOf(const WorkSplit& split, const TileWork& work, int cta_idx) {
  std::vector<WorkPiece> pieces;
  const SplitPoint first = split.boundary[cta_idx];
  const SplitPoint last = split.boundary[cta_idx + 1];
  for (int tile = first.tile; tile <= last.tile; ++tile) {
    const int begin = tile == first.tile ? first.block : 0;
    const int end = tile == last.tile ? last.block : work.num_blocks();
    if (begin < end) pieces.push_back({split.num_whole_tiles + tile, begin, end});
  }
  std::optional<WorkPiece> end_piece;
  if (split.ends_last) {
    std::ranges::reverse(pieces);
    if (first.block > 0 && first.tile < last.tile) {
      end_piece = pieces.back();
      pieces.pop_back();
    }
  }
  for (int tile = cta_idx; tile < split.num_whole_tiles; tile += split.num_ctas) {
    pieces.push_back({.tile_idx = tile, .begin = 0, .end = work.num_blocks()});
  }
  if (end_piece.has_value()) pieces.push_back(*end_piece);
  return pieces;
}

WorkSplit SplitNaively(const TileWork& work, int num_ctas) {
  return {.num_ctas = num_ctas, .num_whole_tiles = work.num_tiles};
}

std::vector<WorkSplit> SplitsOf(const TileWork& work, const WorkCosts& costs, int num_ctas) {
  COMET_CHECK(num_ctas > 0 && num_ctas <= kCtasMax);
  std::vector<WorkSplit> splits = {SplitNaively(work, num_ctas)};
  const int num_waves = work.num_tiles / num_ctas;
  for (const int whole_waves : {num_waves, num_waves - 1}) {
    if (whole_waves < 0 || whole_waves * num_ctas == work.num_tiles) continue;
    if (costs.shares_weights && whole_waves < num_waves) continue;
    splits.push_back(SplitRest(work, costs, num_ctas, whole_waves));
    if (2 * (work.num_tiles - whole_waves * num_ctas) > num_ctas) continue;
    splits.push_back(SplitRestAlike(work, costs, num_ctas, whole_waves));
  }
  return splits;
}

WorkSplit Decompose(const TileWork& work, const WorkCosts& costs, int num_ctas) {
  const std::vector<WorkSplit> splits = SplitsOf(work, costs, num_ctas);
  return *std::ranges::min_element(
      splits, {}, [&](const WorkSplit& split) { return MakespanOf(split, work, costs); });
}

double MakespanOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs) {
  return MakespanOf(LoadsOf(split, work, costs), costs);
}

double RemappedMakespan(const TileWork& work, const WorkCosts& costs, int num_ctas) {
  struct Unit {
    int begin;
    int end;
    double charge;
  };
  // The INT4 region is the last of a tile, so that its CTA stores it.
  const int num_int8 = work.num_int8_blocks;
  std::vector<Unit> units;
  if (num_int8 == 0 || num_int8 == work.num_blocks()) {
    units = {{0, work.num_blocks(), costs.store}};
  } else {
    units = {{0, num_int8, costs.fixup_write},
             {num_int8, work.num_blocks(), costs.Read(1) + costs.store}};
  }
  const WorkCosts shared = Shared(costs, num_ctas);
  const auto clocks = [&](const Unit& unit) {
    return BlocksCost(work, shared, unit.begin, unit.end) + unit.charge;
  };
  std::sort(units.begin(), units.end(),
            [&](const Unit& a, const Unit& b) { return clocks(a) > clocks(b); });
  using Place = std::pair<double, int>;  // Clocks so far, CTA.
  std::priority_queue<Place, std::vector<Place>, std::greater<>> queue;
  for (int cta = 0; cta < num_ctas; ++cta) queue.emplace(0.0, cta);
  std::vector<Load> loads(static_cast<size_t>(num_ctas));
  for (const Unit& unit : units) {
    for (int i = 0; i < work.num_tiles; ++i) {
      const auto [begin, cta] = queue.top();
      queue.pop();
      queue.emplace(begin + clocks(unit), cta);
      Load& load = loads[static_cast<size_t>(cta)];
      load.Add(work, costs, unit.begin, unit.end, unit.charge);
    }
  }
  return MakespanOf(loads, costs);
}

double BoundOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs, int num_ctas) {
  double sum = 0;
  for (const Load& load : LoadsOf(split, work, costs)) {
    const double memory = load.num_blocks * num_ctas * costs.block_memory;
    sum += load.Clocks(/*fill=*/0, memory);
  }
  const double largest_block = std::max(work.num_int8_blocks > 0 ? costs.int8_block : 0.0,
                                        work.num_int4_blocks > 0 ? costs.int4_block : 0.0);
  const int num_units = work.num_tiles * CeilDiv(work.num_blocks(), costs.granularity);
  const double most_blocks = CeilDiv(num_units, num_ctas) * costs.granularity *
                             std::min(costs.int8_block, costs.int4_block);
  return costs.fill + std::max({sum / num_ctas, costs.granularity * largest_block,
                                most_blocks + std::min(costs.store, costs.fixup_write)});
}

}  // namespace comet::sm80
