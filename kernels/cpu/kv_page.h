#pragma once

#include <cstdint>

#include "kernels/cpu/kernel_table.h"
#include "kernels/ops/kv_cache_view.h"

namespace comet::cpu {

// A page is its KV heads one after the other, each
//   keys         [head_dim][64 tokens]      channel-major: attention reads sixteen tokens a vector
//   key scales   s[64], m[64] fp16          4 and 8 bits only
//   values       [64 tokens][value_width]   token-major, value_width = head_dim rounded up to 32
//   value scales s[64], m[64] fp16          4 and 8 bits only
// and every part starts at a multiple of 64 bytes. Four-bit codes of a channel: byte i holds tokens
// i and i + 32; of a value row: byte i of each 16 holds channels i and i + 16 of 32. So sixteen
// consecutive ones come from sixteen bytes by one AND or shift.
inline constexpr int kValueWidthMultiple = 32;

KvHeadLayout MakeKvHeadLayout(const KvFormat& format, int head_dim);

// Stores token `token_idx` of a page through the cache's format. `head` is the KV head in its page;
// key and value have head_dim values, `codes` is scratch for as many bytes.
void StoreKey(const KvHeadLayout& layout, uint8_t* head, int token_idx, const float* key,
              uint8_t* codes);
void StoreValue(const KvHeadLayout& layout, uint8_t* head, int token_idx, const float* value,
                uint8_t* codes);

}  // namespace comet::cpu
