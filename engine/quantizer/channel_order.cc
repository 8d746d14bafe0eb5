#include "engine/quantizer/channel_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/quantizer/parallel_rows.h"
#include "kernels/ops/linear_input.h"

namespace comet {

int NumInt4Channels(int num_channels, double int4_share) {
  const int num_blocks = num_channels / kBlockChannels;
  // A hair below the exact quotient, so that a share of 3/4 of four blocks is three of them.
  const double wanted = int4_share * num_channels / kBlockChannels - 1e-9;
  return std::clamp(static_cast<int>(std::ceil(wanted)), 0, num_blocks) * kBlockChannels;
}

ChannelOrder OrderChannels(std::span<const float> abs_max, std::span<const float> activity,
                           int num_int4_channels) {
  ChannelOrder order;
  order.num_int4_channels = num_int4_channels;
  order.gather.resize(abs_max.size());
  std::iota(order.gather.begin(), order.gather.end(), 0);
  const auto magnitude = [&](int32_t channel) { return abs_max[static_cast<size_t>(channel)]; };
  std::ranges::stable_sort(order.gather, {}, magnitude);
  const auto split = order.gather.begin() + order.num_int4_channels;
  // Equals in the source's order.
  const auto is_more_active = [&](int32_t a, int32_t b) {
    const float activity_a = activity[static_cast<size_t>(a)];
    const float activity_b = activity[static_cast<size_t>(b)];
    return activity_a > activity_b || (activity_a == activity_b && a < b);
  };
  std::sort(order.gather.begin(), split, is_more_active);
  std::sort(split, order.gather.end(), is_more_active);
  return order;
}

void DealOverBlocks(ChannelOrder& order) {
  const size_t num_channels = static_cast<size_t>(order.num_int4_channels);
  const size_t num_blocks = num_channels / kBlockChannels;
  const std::vector<int32_t> ordered = order.gather;
  for (size_t i = 0; i < num_channels; ++i) {
    const size_t turn = i / num_blocks;
    const size_t along = i % num_blocks;
    const size_t block = turn % 2 == 0 ? along : num_blocks - 1 - along;
    order.gather[block * kBlockChannels + turn] = ordered[i];
  }
}

std::vector<float> PermuteColumns(std::span<const float> matrix, std::span<const int32_t> gather,
                                  int num_threads) {
  const size_t width = gather.size();
  std::vector<float> permuted(matrix.size());
  ParallelRows(num_threads, static_cast<int>(matrix.size() / width), [&](int begin, int end) {
    for (size_t first = static_cast<size_t>(begin) * width;
         first < static_cast<size_t>(end) * width; first += width) {
      for (size_t j = 0; j < width; ++j) {
        permuted[first + j] = matrix[first + static_cast<size_t>(gather[j])];
      }
    }
  });
  return permuted;
}

std::vector<float> PermuteRows(std::span<const float> matrix, std::span<const int32_t> gather) {
  const size_t width = matrix.size() / gather.size();
  std::vector<float> permuted;
  permuted.reserve(matrix.size());
  for (const int32_t row : gather) {
    const std::span<const float> values = matrix.subspan(static_cast<size_t>(row) * width, width);
    permuted.insert(permuted.end(), values.begin(), values.end());
  }
  return permuted;
}

}  // namespace comet
