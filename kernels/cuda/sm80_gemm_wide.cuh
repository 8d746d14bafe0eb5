#pragma once

#include <cstdint>

#include "kernels/cuda/device/ptx_forget.cuh"
#include "kernels/cuda/sm80_gemm_multiply.cuh"

// One warp's products of stages where it has 64 tokens: a pipeline that runs on from stage to
// stage. A beat is one mma tile of 16 outputs x 8 tokens. In beat b stand the low half of tile b's
// channels, the high half of tile b - 2 and the sums of tile b - 5 (INT4), so that no instruction
// waits for one just issued, while a new tile begins every second mma and six products are held.
// Operands are read from shared memory as soon as the last mma that used their registers has been
// issued, some beats before the next needs them.
//
// Limits  What is not an mma costs about a clock each, so little else stands in the loop: addresses
//         move by one addition, and INT8 weights become bytes in shared memory, once for all warps
//         that multiply them. A copy holds its addresses' registers for up to 290 clocks, and a
//         loop's edge waits for all reads and copies under way: so copies stand in two places
//         apart, and the edge in a third.
namespace comet::sm80 {

constexpr int kHighLag = 2;
constexpr int kSumLag = 5;

// What is when in a stage.
template <typename Traits>
struct Beats {
  static constexpr int kFrags = Traits::kTokenFrags;
  static constexpr int kNum = kTiles * kFrags;
  static constexpr int kProducts = 8;
  static_assert(kNum % kProducts == 0 && kSumLag < kProducts && kSumLag <= kFrags);

  // That beat of this stage, or of the one before.
  static constexpr int Of(int beat) { return (beat + kNum) % kNum; }
  static constexpr int TileOf(int beat) { return Of(beat) / kFrags; }
  static constexpr int FragOf(int beat) { return Of(beat) % kFrags; }

  // The next stage's weights are converted from here on, two words of each of a thread's chunks a
  // beat;
  static constexpr int kConvert = 2;
  // the loop goes round where no reads or copies are under way, for all of which it waits;
  static constexpr int kLoop = 6;
  // all warps meet: the next stage is there from here on, and the one before has been read;
  static constexpr int kMeet = 8;
  // it is filled in two times, where nothing is read from shared memory, which makes copies dearer;
  static constexpr int kFirstCopies = kFrags + kHighLag;
  static constexpr int kLastCopies = kMeet + kFirstCopies;
  // and what is read from here on is the next stage's.
  static constexpr int kMove = 3 * kFrags - 1;
};

// A group's stages, as Ring has them, but by addresses that move.
template <typename Traits>
class WideRing {
 public:
  // Returns with the first stage there.
  __device__ WideRing(const GemmParams& params, const Worker<Traits>& me, SmemLayout<Traits>& smem)
      : me_(me),
        reader_(ptx::SharedAddress(smem.ring[me.k_group]), me),
        this_(ptx::SharedAddress(smem.ring[me.k_group]) + me.group_thread * kChunkBytes),
        last_(this_ + kLastOffset),
        fill_(this_),
        loader_(params, me) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      StartFirstCopies();
      StartLastCopies();
      loader_.Finish(/*num_stages=*/1, fill_);
      if (i < kAhead - 1) Commit();
      fill_ += kStageBytes;
    }
    ptx::WaitAsyncCopies<kAhead - 2>();
    Sync();
  }

  __device__ __forceinline__ const Worker<Traits>& me() const { return me_; }
  __device__ __forceinline__ const StageReader<Traits>& reader() const { return reader_; }
  // This thread's first chunk in the stage that is multiplied, and in the next.
  __device__ __forceinline__ uint32_t ThisPlace() const { return this_; }
  __device__ __forceinline__ uint32_t NextPlace() const { return this_ + DistanceToNext(); }

  // The parts of a stage, in this order: waits until this thread's copies to the next stage are
  // there,
  __device__ __forceinline__ void Wait() { ptx::WaitAsyncCopies<Traits::kStages - 3>(); }
  // until all threads have come so far,
  __device__ __forceinline__ void Sync() { me_.SyncGroup(); }
  // starts some copies to the stage before,
  __device__ __forceinline__ void StartFirstCopies() {
    loader_.Next();
    StartCopies(/*is_first=*/true);
  }
  // and the others,
  __device__ __forceinline__ void StartLastCopies() { StartCopies(/*is_first=*/false); }
  // lets reader() go to the next stage,
  __device__ __forceinline__ void Move() {
    fill_ = this_;
    const int distance = DistanceToNext();
    this_ += distance;
    reader_.Move(distance);
  }
  // and ends the group of the stage's copies.
  __device__ __forceinline__ void Commit() { ptx::CommitAsyncCopies(); }

  // After so many stages, at the latest, Finish() must follow, before Commit().
  __device__ __forceinline__ int StagesBeforeFinish() const { return loader_.StagesBeforeFinish(); }
  __device__ __forceinline__ void Finish(int num_stages) {
    loader_.Finish(num_stages, fill_ == last_ - kLastOffset ? last_ : fill_ - kStageBytes);
  }

 private:
  static_assert(Traits::kStages >= 4);
  static constexpr int kAhead = Traits::kStages - 1;
  static constexpr int kStageBytes = sizeof(Stage<Traits>);
  static constexpr int kLastOffset = kAhead * kStageBytes;

  __device__ __forceinline__ int DistanceToNext() const {
    return this_ == last_ ? -kLastOffset : kStageBytes;
  }
  // The first are those of the first half of the weights, of gammas and of half of the tokens.
  __device__ __forceinline__ void StartCopies(bool is_first) {
    using Loads = Loader<Traits>;
#pragma unroll
    for (int i = 0; i < Loads::kCopies; ++i) {
      const bool is_token = i > 2 * Loads::kHalfCopies;
      const bool is_of_first = is_token ? i <= 2 * Loads::kHalfCopies + Loads::kTokenCopies / 2
                                        : i != Loads::kHalfCopies;
      if (is_of_first == is_first) loader_.Copy(i, fill_);
    }
  }

  const Worker<Traits>& me_;
  StageReader<Traits> reader_;
  // This thread's first chunk: in the stage that is multiplied, the ring's last one, and the one
  // that is filled.
  uint32_t this_;
  const uint32_t last_;
  uint32_t fill_;
  Loader<Traits> loader_;
};

// Turns a thread's chunks of a stage's INT8 weights into bytes: see Loader.
template <typename Traits>
class Converter {
 public:
  static constexpr int kChunks = Loader<Traits>::kHalfCopies;
  static constexpr int kWords = 8;  // Of bytes, of a chunk; four for either half.

  __device__ __forceinline__ Converter(const Worker<Traits>& me, uint32_t sign_bits)
      : sign_bits_(ptx::InRegister(sign_bits)),
        gammas_(kSecond + me.lane_idx / 4 % 2 * 8 +
                me.group_thread % unsigned{kRowThreads} / unsigned{kWarpThreads} * 2) {}

  // `place`: of this thread's first chunk.
  __device__ __forceinline__ void Read(uint32_t place) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      packed_[chunk] = ptx::LoadShared16(place + chunk * kCopyBytes);
      pair_[chunk] = ptx::LoadShared2(place + gammas_ + chunk * kRowThreads / kWarpThreads * 2);
    }
  }
  // The i-th word of each chunk, and after the last of a half its store, if it is wanted.
  __device__ __forceinline__ void ConvertWords(int i, uint32_t place, bool is_wanted) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      if (i == 0) ReadGammas(chunk);
      const uint4& packed = packed_[chunk];
      const uint32_t word =
          i < 4 ? (i % 2 == 0 ? packed.x : packed.y) : (i % 2 == 0 ? packed.z : packed.w);
      words_[chunk][i % 4] = ConvertCodes<Traits>(
          i % 4 < 2 ? word : word >> 4, gamma_[chunk][i % 2], offset_[chunk][i % 2], sign_bits_);
      if (i % 4 != 3) continue;
      const uint32_t(&w)[4] = words_[chunk];
      ptx::StoreShared16If(is_wanted, place + chunk * kCopyBytes + (i < 4 ? 0 : kSecond),
                           {w[0], w[1], w[2], w[3]});
    }
  }

 private:
  static constexpr int kCopyBytes = Loader<Traits>::kCopyBytes;
  static constexpr int kRowThreads = Loader<Traits>::kRowThreads;
  static constexpr int kSecond = kChunks * kCopyBytes;  // The second half of a stage.

  __device__ __forceinline__ void ReadGammas(int chunk) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      gamma_[chunk][h] = ptx::SignedByte(pair_[chunk], h);
      offset_[chunk][h] = OffsetOf(gamma_[chunk][h]);
    }
  }

  const uint32_t sign_bits_;
  const uint32_t gammas_;  // Where a chunk's first is, from the thread's place on.
  uint4 packed_[kChunks];
  uint32_t pair_[kChunks];
  int gamma_[kChunks][2];
  uint32_t offset_[kChunks][2];
  uint32_t words_[kChunks][4];
};

// Stages of one region: of whole blocks of INT4 codes, acc += gamma * (v * code); or of half blocks
// of INT8 codes, acc += weight * code.
template <typename Traits, bool kIsInt4>
class WidePipeline {
 public:
  // Before a run's first stage.
  __device__ __forceinline__ WidePipeline(WideRing<Traits>& ring, uint32_t sign_bits)
      : converter_(ring.me(), sign_bits) {
    if constexpr (!kIsInt4) {
      ring.Sync();  // The stage has been read ahead, in vain.
      converter_.Read(ring.ThisPlace());
#pragma unroll
      for (int i = 0; i < Converter<Traits>::kWords; ++i) {
        converter_.ConvertWords(i, ring.ThisPlace(), /*is_wanted=*/true);
      }
      ring.Sync();
    }
    const StageReader<Traits>& stage = ring.reader();
    weights_[0][0] = stage.Weights(0, 0);
    weights_[0][1] = stage.Weights(1, 0);
    weights_[1][0] = stage.Weights(0, 1);
#pragma unroll
    for (int frag = 0; frag < B::kFrags; ++frag) tokens_[frag] = stage.Tokens(frag);
    if constexpr (kIsInt4) words_ = stage.ReadGammas();
    Restart();
  }

  // After Drain(): the tiles of the stage before count nothing further.
  __device__ __forceinline__ void Restart() {
    weights_[1][1] = {0, 0, 0, 0};
    gamma_[0] = 0;
    gamma_[1] = 0;
#pragma unroll
    for (int i = 0; i < B::kProducts * 4; ++i) product_[i / 4][i % 4] = 0;
  }

  // The beats of a stage up to kLoop, and those from there on. The next stage is converted if it is
  // one of this run.
  __device__ __forceinline__ void MultiplyFirst(Sums<Traits>& acc, WideRing<Traits>& ring,
                                                bool converts_next) {
    ring.Commit();
    uint32_t next_place = 0;
    if constexpr (!kIsInt4) {
      ring.Wait();
      next_place = ring.NextPlace();
      converter_.Read(next_place);
    }
#pragma unroll
    for (int beat = 0; beat < B::kLoop; ++beat) {
      Multiply(acc, beat, ring);
      const int word = 2 * (beat - B::kConvert);
      if (!kIsInt4 && word >= 0 && word < Converter<Traits>::kWords) {
        converter_.ConvertWords(word, next_place, converts_next);
        converter_.ConvertWords(word + 1, next_place, converts_next);
      }
    }
  }
  __device__ __forceinline__ void MultiplySecond(Sums<Traits>& acc, WideRing<Traits>& ring) {
#pragma unroll
    for (int beat = B::kLoop; beat < B::kNum; ++beat) {
      if (beat == B::kMeet) {
        if constexpr (kIsInt4) ring.Wait();
        ring.Sync();
      }
      if (beat == B::kFirstCopies) ring.StartFirstCopies();
      if (beat == B::kLastCopies) ring.StartLastCopies();
      if (beat == B::kMove) ring.Move();
      Multiply(acc, beat, ring);
    }
  }

  // After the last stage, or before something that wants the registers.
  __device__ __forceinline__ void Drain(Sums<Traits>& acc) {
#pragma unroll
    for (int beat = B::kNum - kHighLag; beat < B::kNum; ++beat) MultiplyHigh(acc, beat);
    if constexpr (kIsInt4) {
#pragma unroll
      for (int i = 2 * (B::kNum - kSumLag); i < 2 * B::kNum; ++i) Add(acc, i / 2, i % 2);
    }
  }

 private:
  using B = Beats<Traits>;

  __device__ __forceinline__ void Multiply(Sums<Traits>& acc, int beat,
                                           const WideRing<Traits>& ring) {
    MultiplyLow(acc, beat);
    if constexpr (kIsInt4) {
      if (B::FragOf(beat - kSumLag) == 0) ReadGammas(B::TileOf(beat - kSumLag));
      Add(acc, beat - kSumLag, 0);
    }
    MultiplyHigh(acc, beat - kHighLag);
    if constexpr (kIsInt4) Add(acc, beat - kSumLag, 1);
    Refill(beat, ring.reader());
  }
  static __device__ __forceinline__ void Multiply4(int (&sum)[4], const uint4& a, uint32_t low,
                                                   uint32_t high, const int (&addend)[4]) {
    if constexpr (!kIsInt4) {
      ptx::Multiply8<Traits::kConversion == Conversion::kInFragment>(sum, a, low, high, addend);
    } else if constexpr (Traits::kInt4Multiply == Int4Multiply::kS4) {
      ptx::MultiplyS4(sum, a, low, high, addend);
    } else {
      ptx::Multiply8<false>(sum, a, low, high, addend);
    }
  }
  __device__ __forceinline__ void MultiplyLow(Sums<Traits>& acc, int beat) {
    constexpr int kZeros[4] = {0, 0, 0, 0};
    const uint4& weights = weights_[B::TileOf(beat) % 2][0];
    const uint4& tokens = tokens_[B::FragOf(beat)];
    if constexpr (kIsInt4) {
      Multiply4(product_[B::Of(beat) % B::kProducts], weights, tokens.x, tokens.y, kZeros);
    } else {
      int(&sum)[4] = acc[B::TileOf(beat)][B::FragOf(beat)];
      Multiply4(sum, weights, tokens.x, tokens.y, sum);
    }
  }
  __device__ __forceinline__ void MultiplyHigh(Sums<Traits>& acc, int beat) {
    const uint4& weights = weights_[B::TileOf(beat) % 2][1];
    const uint4& tokens = tokens_[B::FragOf(beat)];
    int(&sum)[4] =
        kIsInt4 ? product_[B::Of(beat) % B::kProducts] : acc[B::TileOf(beat)][B::FragOf(beat)];
    Multiply4(sum, weights, tokens.z, tokens.w, sum);
  }
  __device__ __forceinline__ void ReadGammas(int tile) {
    gamma_[0] = words_[2 * tile];
    gamma_[1] = words_[2 * tile + 1];
  }
  // Of the tile's rows h, 0 or 1: an output each.
  __device__ __forceinline__ void Add(Sums<Traits>& acc, int beat, int h) {
    const int(&product)[4] = product_[B::Of(beat) % B::kProducts];
    int(&sum)[4] = acc[B::TileOf(beat)][B::FragOf(beat)];
#pragma unroll
    for (int c = 2 * h; c < 2 * h + 2; ++c) sum[c] += gamma_[h] * product[c];
  }
  // Reads what comes in place of the operands that this beat's mmas were the last to use.
  __device__ __forceinline__ void Refill(int beat, const StageReader<Traits>& stage) {
    const auto read_after_next = [&](int tile, int half) {
      weights_[tile % 2][half] = stage.Weights(half, (tile + 2) % kTiles);
    };
    if (B::FragOf(beat) == B::kFrags - 1) read_after_next(B::TileOf(beat), 0);
    if (B::FragOf(beat - kHighLag) == B::kFrags - 1) {
      read_after_next(B::TileOf(beat - kHighLag), 1);
    }
    if (B::TileOf(beat - kHighLag) == kTiles - 1) {
      const int frag = B::FragOf(beat - kHighLag);
      tokens_[frag] = stage.Tokens(frag);
    }
    if (kIsInt4 && beat == B::kNum - 1) words_ = stage.ReadGammas();
  }

  uint4 weights_[2][2];  // [tile % 2][half]
  uint4 tokens_[B::kFrags];
  Converter<Traits> converter_;  // INT8
  // INT4:
  Gammas words_;
  int gamma_[2];  // Of the tile whose products are added.
  int product_[B::kProducts][4];
};

// Multiplies `num_stages` stages of one region, one at least.
template <bool kIsInt4, typename Traits>
__device__ __forceinline__ void MultiplyWide(Sums<Traits>& acc, int num_stages,
                                             WideRing<Traits>& ring, uint32_t sign_bits) {
  WidePipeline<Traits, kIsInt4> pipeline(ring, sign_bits);
#pragma unroll 1
  while (num_stages > 0) {
    const int num_steps = min(num_stages, ring.StagesBeforeFinish());
    const int end = num_stages - num_steps;
    pipeline.MultiplyFirst(acc, ring, /*converts_next=*/num_stages > 1);
#pragma unroll 1
    while (--num_stages > end) {
      pipeline.MultiplySecond(acc, ring);
      pipeline.MultiplyFirst(acc, ring, /*converts_next=*/num_stages > 1);
    }
    pipeline.MultiplySecond(acc, ring);
    pipeline.Drain(acc);  // Products are no registers then.
    ring.Finish(num_steps);
    pipeline.Restart();
  }
}

}  // namespace comet::sm80
