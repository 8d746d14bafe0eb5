#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "kernels/base/random.h"
#include "kernels/base/str_cat.h"
#include "kernels/cuda/oracle/naive_linear.h"
#include "kernels/cuda/sm80_gemm.h"
#include "tests/kernels/cuda_fixture.h"
#include "tests/kernels/cuda_product.h"

namespace comet {
namespace {

using sm80::GemmPlan;

// The product for Ampere and Ada on whatever card is there: its own code on them, from PTX on later
// ones, where INT4 multiplies are emulated.
class CudaSm80GemmTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (device_ == nullptr) return;
    upload_.emplace(cuda::StagedUpload::Create(*device_).value());
    gemm_.emplace(sm80::W4axGemm::Create(*device_).value());
  }

  // Every config by several splits, whether or not it would be chosen.
  void ExpectExact(const ProductCase& c) {
    ExpectExact(c, 0, static_cast<int>(sm80::kGemmConfigs.size()));
  }

  // The same of configs [first, last).
  void ExpectExact(const ProductCase& c, int first, int last) {
    CudaProduct product(*device_, c, /*seed=*/89);
    const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();
    const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
    ASSERT_EQ(cuda::NaiveLinear(*device_, product.OracleArgs(*naive, c.num_tokens)), Status::Ok());
    const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);

    for (int i = first; i < last; ++i) {
      for (const GemmPlan& plan :
           PlansOf(product.DeviceArgsUnpoisoned(*weights, c.num_tokens), i)) {
        const LinearArgs args = product.DeviceArgs(*weights, c.num_tokens);
        ASSERT_EQ(gemm_->Run(args, plan, device_->stream().handle()), Status::Ok());
        const bool is_exact = product.DownloadY(c.num_tokens) == expected;
        EXPECT_TRUE(is_exact) << c << ": config " << i << ", " << plan.split.num_ctas << " CTAs, "
                              << plan.split.num_whole_tiles << " whole tiles";
      }
    }
  }

  // The chosen split, whole tiles alone, and cuts anywhere: by all CTAs, which then have few
  // pieces, and by two, which have many; none where a CTA of the config does not fit the card,
  // which SaysWhatDoesNotFit tells.
  std::vector<GemmPlan> PlansOf(const LinearArgs& args, int config_idx) {
    const sm80::GemmConfig& config = sm80::kGemmConfigs[static_cast<size_t>(config_idx)];
    if (!sm80::Fits(config, gemm_->rates())) return {};
    const sm80::GemmShape shape = sm80::W4axGemm::ShapeOf(args);
    const sm80::TileWork work = sm80::WorkOf(shape, config);
    const int num_ctas = sm80::NumCtas(config_idx, gemm_->rates());
    std::vector<GemmPlan> plans;
    plans.push_back({config_idx, sm80::SplitNaively(work, num_ctas)});
    plans.push_back(
        {config_idx,
         sm80::Decompose(work, sm80::CostsOf(config_idx, shape, gemm_->rates(), num_ctas),
                         num_ctas)});
    if (work.num_tiles < 2 * num_ctas) {
      for (const int some_ctas : {num_ctas, 2}) {
        plans.push_back({config_idx, CutAnywhere(work, some_ctas)});
      }
    }
    return plans;
  }

  sm80::WorkSplit CutAnywhere(const sm80::TileWork& work, int num_ctas) {
    sm80::WorkSplit split{.num_ctas = num_ctas, .ends_last = random_.NextInt(2) == 0};
    const int num_blocks = work.num_tiles * work.num_blocks();
    std::vector<int> cuts = {0, num_blocks};
    for (int i = 1; i < num_ctas; ++i) cuts.push_back(random_.NextInt(num_blocks + 1));
    std::sort(cuts.begin(), cuts.end());
    for (size_t i = 0; i < cuts.size(); ++i) {
      split.boundary[i] = {static_cast<uint16_t>(cuts[i] / work.num_blocks()),
                           static_cast<uint16_t>(cuts[i] % work.num_blocks())};
    }
    return split;
  }

  std::optional<cuda::StagedUpload> upload_;
  std::optional<sm80::W4axGemm> gemm_;
  Random random_{97};
};

struct Codes {
  ActivationMode mode;
  bool packs_int4;
};
constexpr Codes kCodes[] = {{ActivationMode::kInt8, false},
                            {ActivationMode::kMixed, false},
                            {ActivationMode::kMixed, true}};

TEST_F(CudaSm80GemmTest, SaysWhatDoesNotFitAndMostDo) {
  int num_fitting = 0;
  for (const sm80::GemmConfig& config : sm80::kGemmConfigs) {
    if (sm80::Fits(config, gemm_->rates())) {
      ++num_fitting;
    } else {
      GTEST_LOG_(INFO) << "not tested here: " << config.tile_outputs() << " x "
                       << config.tile_tokens() << " wants " << config.smem_kb
                       << " KB, the card has " << gemm_->rates().smem_kb;
    }
  }

  EXPECT_EQ(num_fitting, gemm_->rates().smem_kb >= 163 ? 9 : 5);
}

TEST_F(CudaSm80GemmTest, EveryConfigIsExactOnAnyNAndK) {
  for (const Codes& codes : kCodes) {
    for (const auto& [num_outputs, num_inputs, num_int4] : kW4axShapes) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        for (const int num_tokens : {1, 9, 100}) {
          ExpectExact({WeightKind::kW4ax, codes.mode, num_tokens, num_outputs, num_inputs, num_int4,
                       dtype, codes.packs_int4});
        }
      }
    }
  }
}

TEST_F(CudaSm80GemmTest, EveryConfigIsExactAroundItsTile) {
  for (const sm80::GemmConfig& config : sm80::kGemmConfigs) {
    for (const int delta : {-1, 0, 1}) {
      for (const bool packs_int4 : {false, true}) {
        ExpectExact({WeightKind::kW4ax, ActivationMode::kMixed, config.tile_tokens() + delta, 320,
                     1408, 1152, DType::kF16, packs_int4});
      }
    }
  }
}

// A launch or two of each kernel, tiles cut and not: short enough for compute-sanitizer's
// racecheck.
TEST_F(CudaSm80GemmTest, EveryConfigIsExactOnOneTileOfTokens) {
  for (int i = 0; i < static_cast<int>(sm80::kGemmConfigs.size()); ++i) {
    const int num_tokens = sm80::kGemmConfigs[static_cast<size_t>(i)].tile_tokens();
    for (const bool packs_int4 : {false, true}) {
      ExpectExact({WeightKind::kW4ax, ActivationMode::kMixed, num_tokens, 320, 1408, 1152,
                   DType::kF16, packs_int4},
                  i, i + 1);
    }
  }
}

// N of whole vectors, of vectors that end within a tile, and of odd rows, which are stored one by
// one.
TEST_F(CudaSm80GemmTest, EveryConfigAddsBiasAndResidual) {
  for (const Codes& codes : kCodes) {
    for (const auto& [num_outputs, dtype] : {std::tuple{200, DType::kF16},
                                             {320, DType::kF16},
                                             {321, DType::kF16},
                                             {320, DType::kF32}}) {
      const ProductCase c{WeightKind::kW4ax, codes.mode, 300, num_outputs, 1408, 1152, dtype,
                          codes.packs_int4};
      CudaProduct product(*device_, c, /*seed=*/91);
      const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();
      const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
      const std::vector<uint8_t> expected = product.AddInPlaceByOracle(*naive).value();

      for (int i = 0; i < static_cast<int>(sm80::kGemmConfigs.size()); ++i) {
        for (const GemmPlan& plan :
             PlansOf(product.DeviceArgsUnpoisoned(*weights, c.num_tokens), i)) {
          const auto run = [&](const LinearArgs& args) {
            return gemm_->Run(args, plan, device_->stream().handle());
          };
          const bool is_exact = product.AddInPlace(*naive, *weights, run).value() == expected;
          EXPECT_TRUE(is_exact) << c << ": config " << i << ", " << plan.split.num_whole_tiles
                                << " whole tiles";
        }
      }
    }
  }
}

TEST_F(CudaSm80GemmTest, AGraphReplaysAProductThatWasPlannedAhead) {
  const ProductCase c{WeightKind::kW4ax, ActivationMode::kMixed,    40, 4096, 2048, 1536,
                      DType::kF16,       gemm_->has_int4_products()};
  CudaProduct product(*device_, c, /*seed=*/93);
  const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();
  const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
  ASSERT_EQ(cuda::NaiveLinear(*device_, product.OracleArgs(*naive, c.num_tokens)), Status::Ok());
  const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);
  gemm_->PlanAhead(*weights);
  const int num_plans = gemm_->num_plans();
  const LinearArgs args = product.DeviceArgs(*weights, c.num_tokens);

  const auto graph = device_->Capture([&] { return gemm_->Run(args, device_->stream().handle()); });

  ASSERT_EQ(graph.status(), Status::Ok());
  EXPECT_EQ(gemm_->num_plans(), num_plans);
  for (int i = 0; i < 2; ++i) {
    product.DeviceArgs(*weights, c.num_tokens);  // Poisons y.
    ASSERT_EQ((*graph)->Launch(), Status::Ok());
    EXPECT_TRUE(product.DownloadY(c.num_tokens) == expected) << "replay " << i;
  }
}

// Each exchange of sums leaves what the next launch finds: by a finisher, added, and by slots.
TEST_F(CudaSm80GemmTest, AGraphReplaysCutProducts) {
  const ProductCase c{WeightKind::kW4ax, ActivationMode::kMixed,    40, 1024, 2048, 1536,
                      DType::kF16,       gemm_->has_int4_products()};
  CudaProduct product(*device_, c, /*seed=*/95);
  const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();
  const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
  ASSERT_EQ(cuda::NaiveLinear(*device_, product.OracleArgs(*naive, c.num_tokens)), Status::Ok());
  const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);
  const LinearArgs args = product.DeviceArgs(*weights, c.num_tokens);
  const sm80::GemmShape shape = sm80::W4axGemm::ShapeOf(args);
  for (int i = 0; i < static_cast<int>(sm80::kGemmConfigs.size()); ++i) {
    const sm80::GemmConfig& config = sm80::kGemmConfigs[static_cast<size_t>(i)];
    if (!sm80::Fits(config, gemm_->rates())) continue;
    const GemmPlan plan{i,
                        CutAnywhere(sm80::WorkOf(shape, config), sm80::NumCtas(i, gemm_->rates()))};

    const auto graph =
        device_->Capture([&] { return gemm_->Run(args, plan, device_->stream().handle()); });

    ASSERT_EQ(graph.status(), Status::Ok());
    for (int replay = 0; replay < 3; ++replay) {
      product.DeviceArgs(*weights, c.num_tokens);  // Poisons y.
      ASSERT_EQ((*graph)->Launch(), Status::Ok());
      EXPECT_TRUE(product.DownloadY(c.num_tokens) == expected) << "config " << i;
    }
  }
}

// What the choice takes, at sizes of real layers.
TEST_F(CudaSm80GemmTest, LargeProductsAreExact) {
  for (const Codes& codes : kCodes) {
    for (const auto& [num_tokens, num_outputs, num_inputs, num_int4] :
         {std::tuple{1, 4096, 4096, 3072},
          {8, 28672, 4096, 3968},
          {16, 4096, 14336, 10752},
          {64, 6144, 4096, 3072},
          {77, 4101, 29568, 22144},
          {256, 4096, 4096, 3072},
          {300, 8192, 2048, 1536},
          {1111, 4096, 1024, 0}}) {
      const ProductCase c{WeightKind::kW4ax, codes.mode, num_tokens,  num_outputs,
                          num_inputs,        num_int4,   DType::kF16, codes.packs_int4};
      CudaProduct product(*device_, c, /*seed=*/101);
      const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();
      const std::unique_ptr<PackedLinear> naive = product.PackNaive().value();
      ASSERT_EQ(cuda::NaiveLinear(*device_, product.OracleArgs(*naive, c.num_tokens)),
                Status::Ok());
      const std::vector<uint8_t> expected = product.DownloadY(c.num_tokens);
      for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(
            gemm_->Run(product.DeviceArgs(*weights, c.num_tokens), device_->stream().handle()),
            Status::Ok());
        const bool is_exact = product.DownloadY(c.num_tokens) == expected;
        EXPECT_TRUE(is_exact) << c << " run " << i;
      }
    }
  }
}

TEST_F(CudaSm80GemmTest, RowsOfCodesAtOddAddressesAreRefusedByName) {
  const ProductCase c{WeightKind::kW4ax, ActivationMode::kInt8, 5, 64, 172, 128};
  CudaProduct product(*device_, c, /*seed=*/103);
  const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();

  const Status status =
      gemm_->Run(product.DeviceArgs(*weights, c.num_tokens), device_->stream().handle());

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("x.codes"), std::string::npos) << status.message();
}

// Offsets of a thread's copies have 32 bits.
TEST_F(CudaSm80GemmTest, FourGigabytesOfCodesAreRefusedByName) {
  const ProductCase c{WeightKind::kW4ax, ActivationMode::kInt8, 4, 64, 256, 128};
  CudaProduct product(*device_, c, /*seed=*/105);
  const auto weights = sm80::W4axLinear::Pack(*upload_, product.w4ax_weights()).value();
  LinearArgs args = product.DeviceArgs(*weights, c.num_tokens);
  TensorShape shape = args.x.codes.shape();
  shape.set_stride(0, int64_t{1} << 30);
  args.x.codes = TensorView(const_cast<void*>(args.x.codes.data()), DType::kI8, shape);

  const Status status = gemm_->Run(args, device_->stream().handle());

  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("less than 4 GiB"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace comet
