#pragma once

#include "kernels/base/status.h"
#include "server/commands/serve_options.h"

namespace comet {

// `comet serve`: loads the model, serves until SIGTERM or SIGINT, drains, and returns. Errors: a
// port in use, and those of loading the model.
Status RunServe(const ServeOptions& options);

}  // namespace comet
