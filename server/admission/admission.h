#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include "kernels/base/status.h"

namespace comet {

// Why a request was turned away before it could run.
enum class Rejection { kInFlight, kQueueFull, kWorkersBusy, kDraining };
inline constexpr std::array kRejections = {Rejection::kInFlight, Rejection::kQueueFull,
                                           Rejection::kWorkersBusy, Rejection::kDraining};
// The label in metrics: "in_flight", "queue_full", "workers_busy", "draining".
std::string_view ToString(Rejection reason);

class AdmissionTicket;

// Bounds the requests that all front ends work on at once, so that bodies and answers in memory are
// bounded too; and turns new ones away while draining. Thread-safe.
class Admission {
 public:
  explicit Admission(int requests_in_flight_max) : requests_max_(requests_in_flight_max) {}
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // Errors: kResourceExhausted (too many), kUnavailable (draining); both are counted.
  Result<AdmissionTicket> Admit();
  // Counts a refusal by the engine's queue or by the worker pool; other errors are not counted.
  void CountRefusal(Rejection reason, const Status& status);

  void BeginDrain() { is_draining_.store(true); }
  bool is_draining() const { return is_draining_.load(); }
  int num_in_flight() const { return num_in_flight_.load(); }
  int64_t num_rejections(Rejection reason) const;

 private:
  friend class AdmissionTicket;
  void Release() { num_in_flight_.fetch_sub(1); }
  void Count(Rejection reason);

  const int requests_max_;
  std::atomic<bool> is_draining_ = false;
  std::atomic<int> num_in_flight_ = 0;
  std::array<std::atomic<int64_t>, kRejections.size()> num_rejections_{};
};

// One admitted request; its end makes room. Movable.
class AdmissionTicket {
 public:
  explicit AdmissionTicket(Admission& admission) : admission_(&admission) {}
  AdmissionTicket(AdmissionTicket&& other) noexcept
      : admission_(std::exchange(other.admission_, nullptr)) {}
  AdmissionTicket& operator=(AdmissionTicket&& other) noexcept {
    std::swap(admission_, other.admission_);
    return *this;
  }
  AdmissionTicket(const AdmissionTicket&) = delete;
  AdmissionTicket& operator=(const AdmissionTicket&) = delete;
  ~AdmissionTicket() {
    if (admission_ != nullptr) admission_->Release();
  }

 private:
  Admission* admission_;
};

}  // namespace comet
