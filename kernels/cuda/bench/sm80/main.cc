// comet_sm80_bench: times the product for Ampere and its variants, one JSON line a measurement.
//   comet_sm80_bench [--m 16,64,256] [--share 0.75] [--variants stand_in,...] NxK ...
// On sm_8x the variant `product` is the kernel itself, with INT4 multiplies.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/cuda/bench/random_fill.h"
#include "kernels/cuda/bench/replay.h"
#include "kernels/cuda/bench/sm80/balanced_plan.h"
#include "kernels/cuda/bench/sm80/clock_meter.h"
#include "kernels/cuda/bench/sm80/cuts_id.h"
#include "kernels/cuda/bench/sm80/variants.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/sm80_gemm.h"
#include "kernels/cuda/sm80_w4ax_layout.h"

namespace comet::sm80 {
namespace {

constexpr int64_t kRotatedBytes = 150'000'000;  // Of weights, past any L2.
constexpr double kReplayUs = 1000;
constexpr int kNumRepeats = 7;

struct Options {
  std::vector<int> num_tokens = {16, 64, 256};
  double int4_share = 0.75;
  std::vector<std::string> variants = {"stand_in"};
  std::vector<std::string> shapes;
};

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> items;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) items.push_back(item);
  return items;
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.rfind("--", 0) != 0) {
      options.shapes.push_back(flag);
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (flag == "--m") {
      options.num_tokens.clear();
      for (const std::string& m : SplitList(value))
        options.num_tokens.push_back(std::atoi(m.c_str()));
    } else if (flag == "--share") {
      options.int4_share = std::atof(value.c_str());
    } else if (flag == "--variants") {
      options.variants = SplitList(value);
    } else {
      std::fprintf(stderr, "comet_sm80_bench: flag is %s, expected --m, --share or --variants\n",
                   flag.c_str());
      std::exit(2);
    }
  }
  return options;
}

Result<double> MeasureCopyRate(CudaDevice& device) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  COMET_ASSIGN_OR_RETURN(DeviceBuffer from, device.Allocate(kBytes));
  COMET_ASSIGN_OR_RETURN(DeviceBuffer to, device.Allocate(kBytes));
  COMET_RETURN_IF_ERROR(
      cuda::FillRandom(device, from.data(), kBytes, cuda::FillKind::kInt8, /*seed=*/1));
  COMET_ASSIGN_OR_RETURN(const cuda::Replay replay, cuda::Replay::Capture(device, 2, [&](int) {
                           return cuda::CopyByKernel(device, to.data(), from.data(), kBytes);
                         }));
  std::vector<double> us;
  for (int i = 0; i < 5; ++i) {
    COMET_RETURN_IF_ERROR(replay.Start(device));
    COMET_ASSIGN_OR_RETURN(const double copy_us, replay.Finish());
    us.push_back(copy_us);
  }
  return 2.0 * static_cast<double>(kBytes) / (cuda::Median(us) * 1e-6);
}

// One size: operands on the device, weights as often as a rotation takes.
class Product {
 public:
  static Result<Product> Create(CudaDevice& device, cuda::StagedUpload& upload, int num_outputs,
                                int num_inputs, double share, int num_tokens_max) {
    Product product;
    product.num_int4_ = static_cast<int>(share * num_inputs) / kUnitChannels * kUnitChannels;
    product.num_inputs_ = num_inputs;
    do {
      COMET_ASSIGN_OR_RETURN(std::unique_ptr<W4axLinear> weights,
                             W4axLinear::PackRandom(upload, {.num_outputs = num_outputs,
                                                             .num_inputs = num_inputs,
                                                             .num_int4_channels = product.num_int4_,
                                                             .seed = 3}));
      product.weights_.push_back(std::move(weights));
    } while (product.weights_.size() < 2 ||
             static_cast<int64_t>(product.weights_.size()) * product.weights_[0]->num_bytes() <
                 kRotatedBytes);
    const int64_t m = num_tokens_max;
    COMET_ASSIGN_OR_RETURN(product.codes_, device.Allocate(m * num_inputs));
    COMET_ASSIGN_OR_RETURN(product.scalars_, device.Allocate(m * 16));
    COMET_ASSIGN_OR_RETURN(product.y_, device.Allocate(m * num_outputs * 2));
    COMET_RETURN_IF_ERROR(cuda::FillRandom(device, product.codes_.data(), m * num_inputs,
                                           cuda::FillKind::kInt8, /*seed=*/5));
    COMET_RETURN_IF_ERROR(device.FillZero(product.scalars_.data(), m * 16));
    return product;
  }

  LinearArgs Args(int num_tokens, int copy, bool is_packed) const {
    const auto* weights = weights_[static_cast<size_t>(copy) % weights_.size()].get();
    const ActivationMode mode = is_packed ? ActivationMode::kMixed : ActivationMode::kInt8;
    char* scalars = static_cast<char*>(scalars_.data());
    return {.y = {y_.data(), DType::kF16, {num_tokens, weights->num_outputs()}},
            .x = {.format = {.mode = mode,
                             .num_int4_channels = num_int4_,
                             .exponent_max = 0,
                             .clip = 0.9f,
                             .packs_int4 = is_packed},
                  .codes = {codes_.data(), DType::kI8, {num_tokens, num_inputs_}},
                  .scale = {scalars, DType::kF32, {num_tokens}},
                  .exponent = {scalars + 4 * num_tokens, DType::kI32, {num_tokens}},
                  .code_sum = {scalars + 8 * num_tokens, DType::kI32, {num_tokens, 2}}},
            .weights = weights};
  }
  const W4axLinear& weights() const { return *weights_[0]; }

 private:
  int num_int4_ = 0;
  int num_inputs_ = 0;
  std::vector<std::unique_ptr<W4axLinear>> weights_;
  DeviceBuffer codes_;
  DeviceBuffer scalars_;
  DeviceBuffer y_;
};

struct Timing {
  double us = 0;   // Of a launch.
  double ghz = 0;  // Of the card meanwhile.
};

Result<Timing> Time(CudaDevice& device, const ClockMeter& clock,
                    const std::function<Status(int)>& issue) {
  Timing timing;
  int num_launches = 8;
  for (int round = 0; round < 2; ++round) {  // The first finds how many launches fill a replay.
    COMET_ASSIGN_OR_RETURN(const cuda::Replay replay,
                           cuda::Replay::Capture(device, num_launches, issue));
    std::vector<double> times;
    COMET_RETURN_IF_ERROR(clock.MarkBegin(device));
    for (int i = 0; i < (round == 0 ? 2 : kNumRepeats); ++i) {
      COMET_RETURN_IF_ERROR(replay.Start(device));
      COMET_ASSIGN_OR_RETURN(const double launch_us, replay.Finish());
      times.push_back(launch_us);
    }
    COMET_RETURN_IF_ERROR(clock.MarkEnd(device));
    timing.us = cuda::Median(times);
    num_launches = std::clamp(static_cast<int>(kReplayUs / timing.us), 4, 160);
  }
  COMET_ASSIGN_OR_RETURN(timing.ghz, clock.Ghz(device));
  return timing;
}

// Every config by itself, of tiles within a quarter and four times M: its plans of least makespan,
// of whole tiles, and as even as can be, once each.
std::vector<GemmPlan> PlansOfConfigs(const GemmShape& shape, const DeviceRates& rates) {
  std::vector<GemmPlan> plans;
  const auto add = [&](int config_idx, const WorkSplit& split) {
    for (const GemmPlan& plan : plans) {
      if (plan.config_idx == config_idx && plan.split.num_ctas == split.num_ctas &&
          plan.split.num_whole_tiles == split.num_whole_tiles &&
          CutsId(plan.split) == CutsId(split)) {
        return;
      }
    }
    plans.push_back({config_idx, split});
  };
  for (int i = 0; i < static_cast<int>(kGemmConfigs.size()); ++i) {
    const GemmConfig& config = kGemmConfigs[static_cast<size_t>(i)];
    if (!Fits(config, rates)) continue;
    if (4 * config.tile_tokens() < shape.num_tokens && config.tile_tokens() < 128) continue;
    if (config.tile_tokens() > 4 * std::max(shape.num_tokens, 16)) continue;
    const TileWork work = WorkOf(shape, config);
    const int num_ctas = NumCtas(i, rates);
    WorkCosts costs = CostsOf(i, shape, rates, num_ctas);
    add(i, SplitNaively(work, std::min(work.num_tiles, num_ctas)));
    for (const WorkSplit& split : SplitsOf(work, costs, num_ctas)) {
      if (work.num_tiles >= num_ctas || split.num_whole_tiles < work.num_tiles) add(i, split);
    }
    costs.fixup_write = costs.fixup_read = 0;
    add(i, Decompose(work, costs, num_ctas));
  }
  return plans;
}

// Every plan a variant is timed by: the chosen one; "naive_split" is stand_in without splitter,
// "balanced" by BalancedPlan(), "configs" by PlansOfConfigs().
Status Measure(CudaDevice& device, const ClockMeter& clock, const W4axGemm& gemm,
               const std::vector<Variant>& variants, const Options& options, const Product& product,
               int num_tokens) {
  for (const std::string& name : options.variants) {
    const bool is_packed = name != "product_int8";
    const LinearArgs args = product.Args(num_tokens, 0, is_packed);
    const GemmShape shape = W4axGemm::ShapeOf(args);
    std::vector<GemmPlan> plans = {ChoosePlan(shape, gemm.rates())};
    if (name == "naive_split") {
      const GemmConfig& config = kGemmConfigs[static_cast<size_t>(plans[0].config_idx)];
      plans[0].split =
          SplitNaively(WorkOf(shape, config), NumCtas(plans[0].config_idx, gemm.rates()));
    }
    if (name == "balanced") plans = {BalancedPlan(shape, gemm.rates())};
    if (name == "configs") plans = PlansOfConfigs(shape, gemm.rates());
    const bool is_stand_in = name == "naive_split" || name == "balanced" || name == "configs";
    for (const GemmPlan& plan : plans) {
      const auto found =
          std::find_if(variants.begin(), variants.end(), [&](const Variant& variant) {
            return variant.name == (is_stand_in ? "stand_in" : name);
          });
      const bool is_product = name == "product" || name == "product_int8";
      if (!is_product && found == variants.end()) {
        return InvalidArgument("comet_sm80_bench: no such variant: " + name);
      }
      COMET_ASSIGN_OR_RETURN(
          const Timing timing, Time(device, clock, [&](int i) {
            const LinearArgs launch_args = product.Args(num_tokens, i, is_packed);
            if (is_product) return gemm.Run(launch_args, plan, device.stream().handle());
            return gemm.RunBy(found->instances[static_cast<size_t>(plan.config_idx)], launch_args,
                              plan, device.stream().handle());
          }));
      std::printf(
          "{\"variant\": \"%s\", \"n\": %d, \"k\": %d, \"m\": %d, "
          "\"int8_blocks\": %d, \"int4_blocks\": %d, \"config\": %d, \"whole_tiles\": %d, "
          "\"ctas\": %d, \"cuts\": %u, \"model\": %.0f, \"bound\": %.0f, \"us\": %.3f, \"ghz\": "
          "%.3f}\n",
          name.c_str(), args.weights->num_outputs(), args.weights->num_inputs(), num_tokens,
          shape.num_int8_blocks, shape.num_int4_blocks, plan.config_idx, plan.split.num_whole_tiles,
          plan.split.num_ctas, CutsId(plan.split), MakespanOf(plan, shape, gemm.rates()),
          BoundOf(plan, shape, gemm.rates()), timing.us, timing.ghz);
      std::fflush(stdout);
    }
  }
  return Status::Ok();
}

Status Run(const Options& options) {
  COMET_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device, CudaDevice::Create(/*device_idx=*/0));
  COMET_ASSIGN_OR_RETURN(cuda::StagedUpload upload, cuda::StagedUpload::Create(*device));
  COMET_ASSIGN_OR_RETURN(const W4axGemm gemm, W4axGemm::Create(*device));
  COMET_ASSIGN_OR_RETURN(const ClockMeter clock, ClockMeter::Create(*device));
  const std::vector<Variant> variants = MakeVariants();
  for (const Variant& variant : variants) {
    for (const GemmInstance& instance : variant.instances) {
      if (!Fits(instance.config, gemm.rates())) continue;
      COMET_RETURN_IF_ERROR(cuda::StatusOf(instance.prepare(), "cudaFuncSetAttribute"));
    }
  }
  COMET_ASSIGN_OR_RETURN(const double copy_rate, MeasureCopyRate(*device));
  COMET_ASSIGN_OR_RETURN(const double int8_rate, MeasureInt8Rate(*device));
  std::printf(
      "{\"device\": \"%s\", \"num_sms\": %d, \"copy_bytes_per_s\": %.4g, \"int8_ops_per_s\": "
      "%.4g}\n",
      std::string(device->description()).c_str(), gemm.rates().num_sms, copy_rate, int8_rate);
  const int num_tokens_max =
      *std::max_element(options.num_tokens.begin(), options.num_tokens.end());
  for (const std::string& shape : options.shapes) {
    const size_t x = shape.find('x');
    if (x == std::string::npos) return InvalidArgument("comet_sm80_bench: a shape is " + shape);
    COMET_ASSIGN_OR_RETURN(
        const Product product,
        Product::Create(*device, upload, std::atoi(shape.c_str()), std::atoi(shape.c_str() + x + 1),
                        options.int4_share, num_tokens_max));
    for (const int m : options.num_tokens) {
      COMET_RETURN_IF_ERROR(Measure(*device, clock, gemm, variants, options, product, m));
    }
  }
  return Status::Ok();
}

}  // namespace
}  // namespace comet::sm80

int main(int argc, char** argv) {
  const comet::Status status = comet::sm80::Run(comet::sm80::Parse(argc, argv));
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
