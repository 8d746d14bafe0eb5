#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/forwarding_ops.h"

namespace comet {

// What the calls of one class of op took, all together. An op is classed by name and, of products,
// size: "w4ax 28672x4096".
struct OpClassTime {
  std::string name;
  int num_calls = 0;
  double us = 0;
  double num_bytes = 0;  // Operands and results once: what memory must move.
  double num_int8_ops = 0;
  double num_f16_ops = 0;
};

// Passes every call on and, between Start() and Stop(), times it on the device's stream. The marks
// keep neighbours from overlapping, and what a graph replays is not seen: for profiles of steps
// that run op by op. Confined to the step thread.
class TimedOps final : public ForwardingOps {
 public:
  // `device` outlives this.
  TimedOps(std::unique_ptr<Ops> ops, Device& device)
      : ForwardingOps(std::move(ops)), device_(device) {}

  void Start();
  // In the order of first use, all since Start(). Waits for the device. Errors: those of the
  // device; kResourceExhausted, more calls than marks.
  Result<std::vector<OpClassTime>> Stop();

  Status Embedding(const EmbeddingArgs& args) override;
  Status RmsNorm(const RmsNormArgs& args) override;
  Status Gather(const GatherArgs& args) override;
  Status SiluMul(const SiluMulArgs& args) override;
  Status Linear(const LinearArgs& args) override;
  Status RopeAppend(const RopeAppendArgs& args) override;
  Status Attention(const AttentionArgs& args) override;
  Status Sample(const SampleArgs& args) override;

 private:
  // Work of a class, which is named only when it is timed.
  struct Work {
    double num_bytes = 0;
    double num_int8_ops = 0;
    double num_f16_ops = 0;
  };
  template <typename Args>
  Status Time(Status (Ops::*op)(const Args&), const Args& args, const std::string& name,
              const Work& work);

  Device& device_;
  bool is_timing_ = false;
  int num_calls_ = 0;                  // Since Start(); call i lies between marks 2 i and 2 i + 1.
  std::vector<size_t> class_of_call_;  // Index in classes_.
  std::vector<OpClassTime> classes_;
  std::map<std::string, size_t> class_idx_;
};

}  // namespace comet
