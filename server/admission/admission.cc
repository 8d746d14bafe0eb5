#include "server/admission/admission.h"

#include "kernels/base/str_cat.h"

namespace comet {

std::string_view ToString(Rejection reason) {
  switch (reason) {
    case Rejection::kInFlight: return "in_flight";
    case Rejection::kQueueFull: return "queue_full";
    case Rejection::kWorkersBusy: return "workers_busy";
    case Rejection::kDraining: return "draining";
  }
  return "?";
}

Result<AdmissionTicket> Admission::Admit() {
  if (is_draining_.load()) {
    Count(Rejection::kDraining);
    return Unavailable("server: draining, expected to stop soon: ask another instance");
  }
  // Counted first and given back, so that two threads cannot both take the last place.
  const int num_before = num_in_flight_.fetch_add(1);
  if (num_before >= requests_max_) {
    Release();
    Count(Rejection::kInFlight);
    return ResourceExhausted(
        StrCat("server: ", num_before, " requests are in flight, expected fewer: try again later"));
  }
  return AdmissionTicket(*this);
}

void Admission::CountRefusal(Rejection reason, const Status& status) {
  if (status.code() == StatusCode::kResourceExhausted) Count(reason);
  if (status.code() == StatusCode::kUnavailable) Count(Rejection::kDraining);
}

int64_t Admission::num_rejections(Rejection reason) const {
  return num_rejections_[static_cast<size_t>(reason)].load();
}

void Admission::Count(Rejection reason) {
  num_rejections_[static_cast<size_t>(reason)].fetch_add(1);
}

}  // namespace comet
