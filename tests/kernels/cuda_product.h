#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/ops.h"

namespace comet {

struct ProductCase {
  WeightKind kind = WeightKind::kW4ax;
  ActivationMode mode = ActivationMode::kInt8;
  int num_tokens = 1;
  int num_outputs = 1;
  int num_inputs = 128;
  int num_int4 = 0;
  DType dtype = DType::kF16;
  bool packs_int4 = false;  // Codes go to the device packed; kMixed only.
  // Instead of random operands: sums as large as a layer's may be in even tokens, zeros in odd
  // ones.
  bool is_extreme = false;
};

std::ostream& operator<<(std::ostream& out, const ProductCase& c);

// For every config of a product of W4Ax weights: one block, fewer blocks than k groups, a short
// block, all INT4, no INT4, odd N.
struct W4axShape {
  int num_outputs;
  int num_inputs;
  int num_int4;
};
inline constexpr W4axShape kW4axShapes[] = {{33, 128, 0},      {64, 128, 128}, {1, 64, 0},
                                            {100, 576, 512},   {192, 576, 0},  {193, 1536, 1536},
                                            {1000, 4096, 3968}};

// One integer product with random operands, in host memory and on the device, of any size a GPU
// multiplies in a test's time.
class CudaProduct {
 public:
  CudaProduct(CudaDevice& device, const ProductCase& c, uint64_t seed);

  // Host memory.
  Result<std::unique_ptr<PackedLinear>> Pack(Ops& ops) const;
  Result<std::unique_ptr<PackedLinear>> PackNaive() const;
  W4axWeights w4ax_weights() const;
  LinearArgs HostArgs(const PackedLinear& weights, std::vector<uint8_t>& y) const;
  // The result's bytes of one output, added up on the host.
  float OutputAt(int token, int output) const;

  // Device memory: the first `num_tokens` tokens. The first poisons y. The oracle takes codes as
  // bytes, whatever the case.
  LinearArgs DeviceArgs(const PackedLinear& weights, int num_tokens);
  LinearArgs DeviceArgsUnpoisoned(const PackedLinear& weights, int num_tokens);
  LinearArgs OracleArgs(const PackedLinear& weights, int num_tokens);
  std::vector<uint8_t> DownloadY(int num_tokens);

  // y of `naive`, and then of what `run` adds in place to it and a bias, by `weights`; or by the
  // oracle itself.
  using RunLinear = std::function<Status(const LinearArgs& args)>;
  Result<std::vector<uint8_t>> AddInPlace(const PackedLinear& naive, const PackedLinear& weights,
                                          const RunLinear& run);
  Result<std::vector<uint8_t>> AddInPlaceByOracle(const PackedLinear& naive);

  // A bias of -3 to 3.
  DeviceBuffer UploadBias();

  const ProductCase& shape() const { return case_; }
  int64_t y_row_bytes() const { return int64_t{case_.num_outputs} * BytesOf(case_.dtype); }

 private:
  // y of `naive`, and then of what `run` adds to it and a bias by `args`.
  Result<std::vector<uint8_t>> AddTo(const PackedLinear& naive, LinearArgs args,
                                     const RunLinear& run);
  // Codes as bytes.
  LinearArgs OracleForm(LinearArgs args) const;
  LinearInput InputAt(void* codes, void* scale, void* exponent, void* code_sum,
                      int num_tokens) const;
  Int8Weights int8_weights() const;
  std::vector<int8_t> PackedCodes() const;

  CudaDevice& device_;
  const ProductCase case_;
  ActivationFormat format_;
  std::vector<uint8_t> codes_;
  std::vector<int8_t> steps_;
  std::vector<float> scale_;
  std::vector<int8_t> x_codes_;
  std::vector<float> x_scale_;
  std::vector<int32_t> x_exponent_;
  std::vector<int32_t> x_code_sum_;
  DeviceBuffer device_codes_;
  DeviceBuffer device_packed_codes_;  // Where packs_int4.
  DeviceBuffer device_scale_;
  DeviceBuffer device_exponent_;
  DeviceBuffer device_code_sum_;
  DeviceBuffer device_y_;
};

}  // namespace comet
