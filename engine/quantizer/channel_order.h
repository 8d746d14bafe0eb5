#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

// How the input channels of a linear layer are arranged: position j holds channel gather[j] of the
// producer; the first num_int4_channels positions are the INT4 region.
struct ChannelOrder {
  std::vector<int32_t> gather;
  int num_int4_channels = 0;
};

// Channels of INT4 in whole blocks: the smallest number whose share of all channels reaches
// `int4_share`, or all whole blocks when none does.
int NumInt4Channels(int num_channels, double int4_share);

// Sends the channels of the largest calibrated magnitude to the INT8 region, all but
// `num_int4_channels`, which are whole blocks. Inside each region
// channels run by falling activity, so that those of one block need the same precision.
ChannelOrder OrderChannels(std::span<const float> abs_max, std::span<const float> activity,
                           int num_int4_channels);

// Deals the INT4 region's channels out over its blocks, in turn there and back, so that blocks of a
// region ordered by activity are equally active: for blocks that a Hadamard mixes, as one step of
// a token serves them all.
void DealOverBlocks(ChannelOrder& order);

// Columns of a row-major [num_rows, K] matrix in that order, and rows of one.
std::vector<float> PermuteColumns(std::span<const float> matrix, std::span<const int32_t> gather,
                                  int num_threads);
std::vector<float> PermuteRows(std::span<const float> matrix, std::span<const int32_t> gather);

}  // namespace comet
