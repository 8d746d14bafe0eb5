// Quantising a model whose difficulties are known because they were planted.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/loader/checkpoint.h"
#include "engine/model/device_tensor.h"
#include "engine/model/model.h"
#include "engine/quantizer/calibration_streams.h"
#include "engine/quantizer/channel_order.h"
#include "engine/quantizer/key_bits.h"
#include "engine/quantizer/quantize_model.h"
#include "engine/quantizer/relative_error.h"
#include "engine/quantizer/value_bits.h"
#include "kernels/base/random.h"
#include "tests/engine/checkpoint/planted_source.h"
#include "tests/engine/checkpoint/test_files.h"
#include "tests/engine/cpu_backend_fixture.h"
#include "tests/engine/one_sequence.h"

namespace comet {
namespace {

constexpr double kInt4Share = 0.88;  // All whole blocks: no linear gives one back.
constexpr int kNumTokens = 128;

// In the first head of each group; see PlantedOptions. o_proj's input then has three times as many.
const std::vector<int> kOutliers = {1,   7,   12,  29,  33,  40,  58,  63,
                                    195, 208, 222, 251, 390, 401, 433, 447};

std::vector<int> OutliersOf(LinearKind kind) {
  if (kind != LinearKind::kO) return kOutliers;
  std::vector<int> channels;
  for (const int channel : kOutliers) {
    for (int sibling = 0; sibling < 3; ++sibling) channels.push_back(channel + 64 * sibling);
  }
  return channels;
}

class PlantedTest : public CpuBackendTest<2> {
 protected:
  // The embeddings of random tokens: a layer's input.
  HostRows HiddenRows(FloatSource& source) {
    const std::vector<float> table = source.ReadEmbedding().value();
    Random random(5);
    HostRows rows;
    for (int i = 0; i < kNumTokens; ++i) {
      const auto row = table.begin() + random.NextInt(256) * kPlantedChannels;
      rows.insert(rows.end(), row, row + kPlantedChannels);
    }
    return rows;
  }
  DeviceTensor Hidden(FloatSource& source) {
    const HostRows rows = HiddenRows(source);
    return DeviceTensor::Upload(*backend_.device,
                                {rows.data(), DType::kF32, {kNumTokens, kPlantedChannels}})
        .value();
  }

  QuantizeModelOptions OptionsFor(const std::string& folder) const {
    return {.output = temp_.PathOf(folder),
            .calibration_text = PlantedText(320, 3),
            .calibration = {.window_tokens = 128, .tokens_max = 256},
            .int4_share = kInt4Share,
            .sample_tokens_max = 64,
            .tuning = {.num_steps = 0},
            .num_threads = 2};
  }
  Result<AccuracyReport> Quantize(FloatSource& source, const std::string& folder) {
    return QuantizeModel(source, backend_, OptionsFor(folder), {});
  }

  // Logits of the last 32 of kNumTokens tokens, whose keys the cache has all held.
  template <typename Source>
  std::vector<float> Logits(Source& source, const Precision& precision) {
    const ModelLimits limits = LimitsOfOneSequence(kNumTokens);
    const auto model = Model::Load(backend_, source, precision, limits);
    EXPECT_TRUE(model.ok()) << model.status();
    const std::vector<int> rows = FirstIntegers(kNumTokens);
    const auto logits = ComputeLogits(backend_, **model, limits, {.ids = RandomPairIds(kNumTokens)},
                                      std::span(rows).last(32));
    EXPECT_TRUE(logits.ok()) << logits.status();
    return *logits;
  }

  TempFolder temp_;
};

TEST_F(PlantedTest, OutliersLeaveTheFunctionAsItIs) {
  const auto plain = MakePlantedSource({});
  const auto planted = MakePlantedSource({.outliers = kOutliers, .outlier_factor = 100.0f});

  EXPECT_LT(RelativeError(Logits(*planted, kFloatPrecision), Logits(*plain, kFloatPrecision)),
            1e-5);
}

TEST_F(PlantedTest, PermutationFindsEveryOutlier) {
  for (const float factor : {10.0f, 30.0f, 100.0f}) {
    const auto source = MakePlantedSource({.outliers = kOutliers, .outlier_factor = factor});
    const FloatLayer layer = source->ReadLayer(0).value();
    auto stream = ResidualStream::Create(backend_, source->config(), {HiddenRows(*source)}, 2);
    ASSERT_TRUE(stream.ok()) << stream.status();
    CalibrationStreams streams(backend_, std::move(stream).value(), std::nullopt, 2);
    streams.BeginLayer(layer);

    for (const LinearKind kind :
         {LinearKind::kQkv, LinearKind::kO, LinearKind::kGateUp, LinearKind::kDown}) {
      const auto seen = streams.See(kind, layer, /*sample_stride=*/4);
      ASSERT_TRUE(seen.ok()) << seen.status();
      const ChannelOrder order = OrderChannels(seen->abs_max, seen->Activity(),
                                               NumInt4Channels(kPlantedChannels, kInt4Share));

      const auto int8 = order.gather.begin() + order.num_int4_channels;
      for (const int channel : OutliersOf(kind)) {
        EXPECT_NE(std::find(int8, order.gather.end(), channel), order.gather.end())
            << "linear " << static_cast<int>(kind) << " channel " << channel << " x" << factor;
      }
    }
  }
}

TEST_F(PlantedTest, OutliersCostNoMoreThanTheirBlocksAndLittleAccuracy) {
  const auto plain_report = Quantize(*MakePlantedSource({}), "plain");
  ASSERT_TRUE(plain_report.ok()) << plain_report.status();
  // One block holds outliers and others under one step, so the largest factors do cost something;
  // among the INT4 channels they would leave nothing of those.
  for (const auto& [factor, times_plain] : {std::pair(10.0f, 1.15), std::pair(100.0f, 2.2)}) {
    const auto planted = MakePlantedSource({.outliers = kOutliers, .outlier_factor = factor});
    const auto report = Quantize(*planted, "planted" + std::to_string(factor));
    ASSERT_TRUE(report.ok()) << report.status();

    const LayerAccuracy& layer = report->layers[0];
    constexpr double kBlockShare = 128.0 / kPlantedChannels;
    for (const auto& [kind, linear] : {std::pair(LinearKind::kQkv, &layer.qkv),
                                       {LinearKind::kO, &layer.o},
                                       {LinearKind::kGateUp, &layer.gate_up},
                                       {LinearKind::kDown, &layer.down}}) {
      const double planted_share = static_cast<double>(OutliersOf(kind).size()) / kPlantedChannels;
      EXPECT_LE(1.0 - linear->int4_share, planted_share + kBlockShare);
      EXPECT_LT(linear->output_error_mixed, 0.35) << static_cast<int>(kind) << " x" << factor;
    }
    EXPECT_EQ(layer.kv, KvFormat{});  // The rotation leaves V without outliers.
    EXPECT_LT(report->Mean().output_error_mixed,
              times_plain * plain_report->Mean().output_error_mixed);
  }
}

TEST_F(PlantedTest, KeysWithAHugeBiasGetMoreBitsUntilAttentionHolds) {
  for (const int pairs : {0, 1, 3, 8}) {
    const auto source = MakePlantedSource({.k_bias_norm = 600.0f, .bias_pairs = pairs});
    const FloatLayer layer = source->ReadLayer(0).value();
    const DeviceTensor hidden = Hidden(*source);

    const auto four = ChooseKeyHadamard(backend_, source->config(), layer, hidden.view(), 4);
    const auto chosen = ChooseKeyBits(backend_, source->config(), layer, hidden.view(), 4, 0.3);

    ASSERT_TRUE(four.ok() && chosen.ok()) << four.status() << chosen.status();
    EXPECT_GT(std::min(four->plain_error, four->hadamard_error), 0.5) << pairs;
    EXPECT_GT(chosen->k_bits, 4) << pairs;
    EXPECT_LE(std::min(chosen->hadamard.plain_error, chosen->hadamard.hadamard_error), 0.3);
  }
}

TEST_F(PlantedTest, AnOrdinaryBiasKeepsFourBits) {
  for (const float norm : {0.0f, 22.0f}) {
    const auto source = MakePlantedSource({.k_bias_norm = norm, .bias_pairs = 3});
    const FloatLayer layer = source->ReadLayer(0).value();

    const auto chosen =
        ChooseKeyBits(backend_, source->config(), layer, Hidden(*source).view(), 4, 0.3);

    ASSERT_TRUE(chosen.ok()) << chosen.status();
    EXPECT_EQ(chosen->k_bits, 4) << norm;
  }
}

TEST_F(PlantedTest, ValuesWithOutliersGetMoreBitsUntilAttentionHolds) {
  for (const auto& [factor, v_bits] : {std::pair(1.0f, 4), {10.0f, 8}, {300.0f, 16}}) {
    const auto source = MakePlantedSource({.outliers = kOutliers, .outlier_factor = factor});
    const FloatLayer layer = source->ReadLayer(0).value();
    const DeviceTensor hidden = Hidden(*source);
    const auto choose = [&](double error_max) {
      return ChooseValueBits(backend_, source->config(), layer, hidden.view(), 4, error_max);
    };

    const auto four = choose(1e9);
    const auto chosen = choose(0.3);

    ASSERT_TRUE(four.ok() && chosen.ok()) << four.status() << chosen.status();
    EXPECT_EQ(four->v_bits, 4);
    EXPECT_EQ(four->error > 0.3, factor > 1.0f) << four->error;
    EXPECT_EQ(chosen->v_bits, v_bits) << factor;
    EXPECT_LE(chosen->error, 0.3) << factor;
  }
}

TEST_F(PlantedTest, KeysGetTheBitsOfValuesThatNeedMore) {
  const auto source = MakePlantedSource({.outliers = kOutliers, .outlier_factor = 10.0f});
  QuantizeModelOptions options = OptionsFor("outlying");
  options.rotates = false;
  const auto report = QuantizeModel(*source, backend_, options, {});
  ASSERT_TRUE(report.ok()) << report.status();
  const auto checkpoint = Checkpoint::Open(options.output);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const LayerAccuracy& layer = report->layers[0];
  EXPECT_EQ((*checkpoint)->layer(0).kv, layer.kv);
  EXPECT_EQ(layer.kv, (KvFormat{.k_bits = 8, .v_bits = 8}));
  EXPECT_LE(layer.value_error, 0.3);
  EXPECT_LT(layer.keys.error(), 0.05);  // That of 8 bits.
}

TEST_F(PlantedTest, Kv4DoesNotCollapseUnderAHugeKeyBias) {
  const auto source = MakePlantedSource({.k_bias_norm = 600.0f, .bias_pairs = 3});
  const auto report = Quantize(*source, "biased");
  ASSERT_TRUE(report.ok()) << report.status();
  const auto checkpoint = Checkpoint::Open(temp_.PathOf("biased"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::vector<float> expected = Logits(*source, kFloatPrecision);
  // Weights as they were quantised throughout, so that the cache alone differs.
  Precision as_made{.activations = ActivationMode::kFloat};
  Precision exact = as_made;
  exact.kv = {.k_bits = 32, .v_bits = 32};
  exact.kv_from_checkpoint = false;
  Precision four = exact;
  four.kv = {.k_bits = 4, .v_bits = 4};

  const std::vector<float> unrounded = Logits(**checkpoint, exact);
  const double as_made_error = RelativeError(Logits(**checkpoint, as_made), unrounded);
  const double four_error = RelativeError(Logits(**checkpoint, four), unrounded);

  EXPECT_EQ((*checkpoint)->layer(0).kv.v_bits, 4);
  EXPECT_EQ((*checkpoint)->layer(0).kv.k_bits, report->layers[0].kv.k_bits);
  EXPECT_GT((*checkpoint)->layer(0).kv.k_bits, 4);
  EXPECT_LT(as_made_error, 0.1);
  EXPECT_GT(four_error, 3.0 * as_made_error);
  EXPECT_LT(RelativeError(unrounded, expected), 0.3);
}

}  // namespace
}  // namespace comet
