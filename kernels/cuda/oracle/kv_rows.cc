#include "kernels/cuda/oracle/kv_rows.h"

#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/cuda/kv_page_layout.cuh"

namespace comet::cuda {

void ReadKvRow(const KvCacheView& cache, int page_id, int kv_head_idx, int token_idx, bool is_key,
               std::span<float> x) {
  const KvPageLayout layout{cache.head_dim, cache.format.k_bits, cache.format.v_bits};
  const uint8_t* head = cache.pages.as<uint8_t>() + page_id * cache.pages.stride(0) +
                        int64_t{kv_head_idx} * layout.head_bytes();
  const uint8_t* codes = head + (is_key ? 0 : layout.v_code_offset());
  const int scale_offset = is_key ? layout.k_scale_offset() : layout.v_scale_offset();
  Half scale_and_minimum[2];
  std::memcpy(scale_and_minimum, head + scale_offset + ScalePlace(token_idx),
              sizeof(scale_and_minimum));
  const int code_mask = (1 << (is_key ? layout.k_bits : layout.v_bits)) - 1;
  for (int channel = 0; channel < cache.head_dim; ++channel) {
    const CodePlace place = is_key ? KeyCodePlace(layout, token_idx, channel)
                                   : ValueCodePlace(layout, token_idx, channel);
    const int code = codes[place.byte] >> place.shift & code_mask;
    x[static_cast<size_t>(channel)] =
        ToFloat(scale_and_minimum[0]) * static_cast<float>(code) + ToFloat(scale_and_minimum[1]);
  }
}

}  // namespace comet::cuda
