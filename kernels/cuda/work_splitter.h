#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace comet::sm80 {

// Scheduling of one W4Ax product on the multiprocessors of a card (DESIGN, "work splitter"). A tile
// is a rectangle of y; its work is its blocks of input channels in the product's order, INT8 region
// first. Times are in any one unit. Pure host code.
struct TileWork {
  int num_tiles = 0;
  int num_int8_blocks = 0;  // Of a tile, first,
  int num_int4_blocks = 0;  // then these.
  int num_blocks() const { return num_int8_blocks + num_int4_blocks; }
};

inline constexpr int kCtasPerSmMax = 3;

struct WorkCosts {
  double int4_block = 1;  // c4: one block of a tile, on one CTA, while its weights are there.
  double int8_block = 2;  // c8
  // Of the card's memory, which all CTAs share: n that run together get n blocks in n times this.
  double block_memory = 0;
  // CTAs that a multiprocessor runs at once, and the part of a block's time that is left where only
  // as many as the index says still run.
  int ctas_per_sm = 1;
  std::array<double, kCtasPerSmMax + 1> block_part = {0, 1, 1, 1};
  double fill = 0;              // Before a CTA's first block: its pipeline is empty.
  double store = 0;             // Scale, bias, residual and store of a finished tile.
  double fixup_write = 0;       // Sums of a piece that does not end its tile, to global memory
  double fixup_read = 0;        // and of all such back, by the CTA that stores the tile,
  double fixup_read_piece = 0;  // and of each of them.
  // Whether another part of the CTA stores and exchanges sums while the next piece is multiplied:
  // then all of this but a CTA's last is hidden, and a piece costs `pass` instead.
  bool hides_sums = false;
  double pass = 0;
  // Whether several tiles have the same weights, which HBM then brings once if they run together.
  bool shares_weights = false;
  int granularity = 1;  // A tile is cut between multiples of so many blocks.

  // Where `num_pieces` others of the tile ended before.
  double Read(int num_pieces) const {
    return num_pieces == 0 ? 0.0 : fixup_read + num_pieces * fixup_read_piece;
  }
};

inline constexpr int kCtasMax = 432;  // The boundaries travel as a kernel argument.

// A place in the sequence of the split tiles' blocks.
struct SplitPoint {
  uint16_t tile = 0;  // From the first split tile on.
  uint16_t block = 0;
  friend bool operator==(const SplitPoint&, const SplitPoint&) = default;
};

// CTA i takes the blocks from boundary i to boundary i + 1 of the tiles from num_whole_tiles on,
// which are one sequence, tile after tile; then the whole tiles i, i + num_ctas ... before these:
// the exchange of a finisher's sums is hidden by what follows. With `ends_last`, of that sequence
// the last tile first, and the piece that ends a tile which others began after all else: their sums
// are there by then.
struct WorkSplit {
  int num_ctas = 0;
  int num_whole_tiles = 0;
  bool ends_last = false;
  SplitPoint boundary[kCtasMax + 1];
};

// Blocks of one tile that one CTA multiplies.
struct WorkPiece {
  int tile_idx = 0;
  int begin = 0;
  int end = 0;
};

// The pieces of a CTA, in its order.
std::vector<WorkPiece> PiecesOf(const WorkSplit& split, const TileWork& work, int cta_idx);

// Whole tiles alone, wave after wave: what a grid of a CTA a tile does.
WorkSplit SplitNaively(const TileWork& work, int num_ctas);
// Whole tiles, and full waves (or one fewer) of whole tiles with the rest cut into pieces of equal
// time, charges included: one sequence, cut anywhere, or each tile among as many CTAs of its own,
// which may leave some CTAs without. Tiles of the same weights are not left to follow one another
// on a CTA: L2 has forgotten the weights by then.
std::vector<WorkSplit> SplitsOf(const TileWork& work, const WorkCosts& costs, int num_ctas);
// The one of least makespan of these.
WorkSplit Decompose(const TileWork& work, const WorkCosts& costs, int num_ctas);

// When the last CTA ends. CTAs go in step, block by block: each block takes its own time, less as
// others of its multiprocessor have ended, or the memory's for a block of every CTA that has not.
double MakespanOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs);
// The same where regions of tiles are the units, dealt to CTAs longest first: the paper's remapping
// without decomposition. For comparison; no kernel runs it.
double RemappedMakespan(const TileWork& work, const WorkCosts& costs, int num_ctas);
// How even a split can be: behind a fill, which no CTA is spared, the largest of the mean load that
// `split` would be of `num_ctas` CTAs that share the memory, charges included, of one unit of
// `granularity` blocks, and of the ceil(units / CTAs) units that some CTA must get.
double BoundOf(const WorkSplit& split, const TileWork& work, const WorkCosts& costs, int num_ctas);

}  // namespace comet::sm80
