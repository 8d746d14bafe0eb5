#pragma once

#include "engine/engine.h"
#include "server/admin/metrics.h"
#include "server/admission/admission.h"
#include "server/http/router.h"

namespace comet {

// What the endpoints read; everything outlives the router.
struct AdminContext {
  const Engine& engine;
  const Admission& admission;
  const Metrics& metrics;
};

// OK when a new request would be served: not draining, and Engine::CheckReady().
Status CheckReady(const AdminContext& context);

// Adds /health (the process answers), /ready (503 with the reason when it would not serve) and
// /metrics.
void AddAdminRoutes(const AdminContext& context, Router& router);

}  // namespace comet
