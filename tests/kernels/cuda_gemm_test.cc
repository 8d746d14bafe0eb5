#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "kernels/base/str_cat.h"
#include "kernels/cuda/oracle/naive_linear.h"
#include "kernels/cuda/sm90_gemm.h"
#include "tests/kernels/cuda_fixture.h"
#include "tests/kernels/cuda_product.h"

namespace comet {
namespace {

std::string Describe(const sm90::GemmConfig& config) {
  return StrCat(config.row_groups, " row groups, ", config.tile_tokens, " tokens, ",
                config.k_groups, " k groups, clusters of ", config.cluster_k);
}

// Every config of the Hopper product, whether or not it would be chosen for the shape.
class CudaGemmTest : public CudaTest {
 protected:
  void ExpectEveryConfigExact(const ProductCase& c) {
    Result<sm90::W4axGemm> gemm = sm90::W4axGemm::Create();
    if (!gemm.ok()) GTEST_SKIP() << gemm.status().message();
    CudaProduct product(*device_, c, /*seed=*/83);
    const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
    const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
    ASSERT_EQ(cuda::NaiveLinear(*device_, product.DeviceArgs(*naive, c.num_tokens)), Status::Ok());
    const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);

    for (const sm90::GemmConfig& config : sm90::kGemmConfigs) {
      ASSERT_EQ(
          gemm->Run(product.DeviceArgs(*weights, c.num_tokens), config, device_->stream().handle()),
          Status::Ok());
      const bool is_exact = product.DownloadY(c.num_tokens) == expected;
      EXPECT_TRUE(is_exact) << c << ": " << Describe(config);
    }
  }
};

TEST_F(CudaGemmTest, EveryConfigIsExactOnAnyNAndK) {
  for (const ActivationMode mode : {ActivationMode::kInt8, ActivationMode::kMixed}) {
    for (const auto& [num_outputs, num_inputs, num_int4] : kW4axShapes) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        for (const int num_tokens : {1, 9, 100}) {
          ExpectEveryConfigExact(
              {WeightKind::kW4ax, mode, num_tokens, num_outputs, num_inputs, num_int4, dtype});
        }
      }
    }
  }
}

TEST_F(CudaGemmTest, EveryConfigAddsBiasAndResidual) {
  Result<sm90::W4axGemm> gemm = sm90::W4axGemm::Create();
  if (!gemm.ok()) GTEST_SKIP() << gemm.status().message();
  for (const int num_outputs : {200, 320, 321}) {
    const ProductCase c{WeightKind::kW4ax, ActivationMode::kInt8, 300, num_outputs, 1408, 1152};
    CudaProduct product(*device_, c, /*seed=*/89);
    const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
    const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
    const std::vector<uint8_t> expected = product.AddInPlaceByOracle(*naive).value();
    for (const sm90::GemmConfig& config : sm90::kGemmConfigs) {
      const std::vector<uint8_t> actual =
          product
              .AddInPlace(*naive, *weights,
                          [&](const LinearArgs& args) {
                            return gemm->Run(args, config, device_->stream().handle());
                          })
              .value();
      EXPECT_TRUE(actual == expected) << c << ": " << Describe(config);
    }
  }
}

TEST_F(CudaGemmTest, Int8ProductsAddBiasAndResidual) {
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    for (const int num_outputs : {200, 320, 321}) {
      for (const int num_tokens : {33, 129}) {
        const ProductCase c{WeightKind::kInt8,
                            ActivationMode::kInt8,
                            num_tokens,
                            num_outputs,
                            1200,
                            /*num_int4=*/0,
                            dtype};
        CudaProduct product(*device_, c, /*seed=*/97);
        const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
        const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
        const auto run_ops = [&](const LinearArgs& args) { return ops_->Linear(args); };

        EXPECT_TRUE(product.AddInPlace(*naive, *weights, run_ops).value() ==
                    product.AddInPlaceByOracle(*naive).value())
            << c;
      }
    }
  }
}

// f16 tiles of 96 tokens or more leave in boxes where there is no residual; a bias is all they add.
TEST_F(CudaGemmTest, EveryConfigAddsABiasAlone) {
  Result<sm90::W4axGemm> gemm = sm90::W4axGemm::Create();
  if (!gemm.ok()) GTEST_SKIP() << gemm.status().message();
  for (const int num_outputs : {192, 320, 328}) {
    for (const int num_tokens : {96, 131, 300}) {
      const ProductCase c{
          WeightKind::kW4ax, ActivationMode::kInt8, num_tokens, num_outputs, 1408, 1152};
      CudaProduct product(*device_, c, /*seed=*/101);
      const std::unique_ptr<PackedLinear> weights = product.Pack(*ops_).value();
      const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
      const DeviceBuffer bias = product.UploadBias();
      const auto with_bias = [&](const PackedLinear& packed) {
        LinearArgs args = product.DeviceArgs(packed, num_tokens);
        args.bias = ConstTensorView(bias.data(), DType::kF32, {num_outputs});
        return args;
      };
      ASSERT_EQ(cuda::NaiveLinear(*device_, with_bias(*naive)), Status::Ok());
      const std::vector<uint8_t> expected = product.DownloadY(num_tokens);

      for (const sm90::GemmConfig& config : sm90::kGemmConfigs) {
        ASSERT_EQ(gemm->Run(with_bias(*weights), config, device_->stream().handle()), Status::Ok());
        EXPECT_TRUE(product.DownloadY(num_tokens) == expected) << c << ": " << Describe(config);
      }
    }
  }
}

// One block a tile, so that boxes are filled again right after they were: two tiles a CTA and
// three.
TEST_F(CudaGemmTest, EveryConfigIsExactOverManyShortTiles) {
  for (const int num_tiles : {2 * 132, 300}) {
    for (const sm90::GemmConfig& config : sm90::kGemmConfigs) {
      if (config.box_tokens() == 0) continue;
      const int num_token_tiles = 4;
      ExpectEveryConfigExact({WeightKind::kW4ax, ActivationMode::kInt8,
                              num_token_tiles * config.tile_tokens - 3,
                              num_tiles / num_token_tiles * config.tile_outputs(), 128, 128});
    }
  }
}

TEST_F(CudaGemmTest, EveryConfigIsExactAroundItsTile) {
  std::vector<int> num_tokens;
  for (const sm90::GemmConfig& config : sm90::kGemmConfigs) {
    for (const int delta : {-1, 0, 1}) num_tokens.push_back(config.tile_tokens + delta);
  }
  std::sort(num_tokens.begin(), num_tokens.end());
  num_tokens.erase(std::unique(num_tokens.begin(), num_tokens.end()), num_tokens.end());
  for (const int m : num_tokens) {
    ExpectEveryConfigExact({WeightKind::kW4ax, ActivationMode::kInt8, m, 320, 1408, 1152});
  }
}

}  // namespace
}  // namespace comet
